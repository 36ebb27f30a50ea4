echo "serving with $(cat /greeting), $(cat /etc/shop.conf)"
exec httpd -f -v -p 8080 -h "$PAGES"
