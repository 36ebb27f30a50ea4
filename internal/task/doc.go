// Package task is the contract with the keeper, the one small process that is the parent of all containers: the
// protocol, the records it leaves on disk, and the client side of it.
//
// # The life of a task
//
// A task is one run of a container's first process; a task may have further processes, its execs. Create makes the
// process, set up and paused just before execve; Start lets it go (Run does both at once); an Exit event tells its end,
// after the exit record is on disk; Delete gives back what the keeper holds and removes the record. Attach may come at
// any time, before Create too: an attachment made before the process exists misses nothing of its output.
//
// # Two processes that may die
//
// The client's process and the keeper may each be killed at any moment. Everything the keeper holds for a task (pidfd,
// stdio, terminal) is also held by the Client, handed over as descriptors. When the keeper dies the Client starts a
// new one and gives them back; when the client's process dies, the next one Opens the running keeper and gets them
// again. An exit that happened in between is told from the exit record, or by the pidfd (PIDFD_GET_INFO, Linux 6.15),
// or from the zombie that the client's process, as subreaper, inherited and has not reaped yet. Attachments
// outlive the client's process too, and the keeper's, unless both die.
package task
