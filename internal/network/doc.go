// Package network wires containers: bridges, addresses, the firewall, published ports. It speaks netlink and keeps one
// nftables table of its own; it starts no program and no proxy.
//
// A container's network namespace is held by a descriptor, never by a bind mount: when its last process ends, the kernel
// takes the namespace and its veth pair down, so that a crash leaves nothing behind.
//
// The life of a namespace: the pool makes it ahead of time, wired and with an address, through one request on the host
// and one inside; Join hands it to a container and publishes the ports; the container's last process ends it. Leave
// withdraws the ports at once, and the address when the sweeper has seen the veth go: the kernel takes its time, and two
// holders of one address would answer for each other.
//
// What is known of the firewall is in memory, as a value (table), and rendered from there: a container that comes or goes
// is one element in a map, and a table that somebody flushed is put back as a whole by the watcher.
//
// All descriptors are opened by Open in the network namespace of its caller, which is "the host" from then on.
package network
