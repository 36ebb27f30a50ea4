import os

from greeter import greet

print(greet("uid %d" % os.getuid()))
