// Package dns answers containers that look up names: of each other, of the host, and, by asking the host's resolvers, of
// everybody else.
//
// Each container is served by two sockets of its own, UDP and TCP, on 127.0.0.11 inside its network namespace. So it is
// known for sure who asks, no firewall of the host is in the way, and a network without any way out has names too. A
// socket belongs to its namespace for good, whoever holds it: when this process is killed, another one that holds the
// sockets keeps them open, what is asked meanwhile waits in them, and the next server goes on where this one was.
//
// # The life of a question
//
// One loop takes questions from all sockets, as many at a time as there are, and answers from memory what it can: names
// of containers (zone) and what is remembered of others (cache). The rest is asked of the resolvers (forwarder), each
// question once however many wait for it, while the loop goes on.
//
// # Restarts
//
// A container that has ended keeps its names for a while (Leave): its neighbours see it busy, not unknown.
package dns
