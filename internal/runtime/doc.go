// Package runtime turns an OCI runtime specification into isolated processes.
//
// # A set-up is a program
//
// compile (pure Go, no effects) turns a specification and the facts of the host into a Program: a flat list of system
// calls with prepared arguments. An executor runs the program in the new process and ends in execve. The fast executor
// is a vfork child that interprets the list in a little assembly without the Go runtime (amd64); the plain one is a
// re-executed Go process, for other architectures, for the race detector, and as the proof of the first.
//
// # The life of a process
//
//	Create   the parent runs the program's host section: it opens what lies on the host (layers, sources of bind
//	         mounts, control groups) as descriptors. The child is cloned, runs the child section with nothing of the
//	         host but these, and parks before its execve. What the program cannot do itself (write a user namespace's
//	         maps, make a mount target along a dangling symbolic link) it asks its parent for, over a line of its own.
//	Start    lets it go. The line's end tells that execve has happened, or that the child has ended; in that case the
//	         memory that both share names the operation that failed.
//	Delete   gives back what the parent holds, and removes the control group.
//
// A program that uses this package calls MaybeChild before all else, and then Seal if it will make containers.
//
// No thread and no goroutine is kept for a running container. A created one holds a thread: that which called clone.
package runtime
