// Package firewall keeps one nftables table equal to a value in memory (Table): what bridges may do, and which ports of the
// host go where. A container that comes or goes is an element of a map, in one transaction however many ports it has; a
// range of ports is one element. A table that somebody flushed is put back as a whole by the Watcher.
package firewall
