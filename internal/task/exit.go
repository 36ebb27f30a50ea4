package task

import "time"

// Exit is how a process ended. It is also the exit record on disk.
type Exit struct {
	ID     string
	ExecID string `json:",omitempty"`
	PID    int
	// Code is what a shell would say: the exit status, or 128 and the signal's number.
	Code int
	// Signal is the signal that ended it, 0 if it exited by itself.
	Signal int `json:",omitempty"`
	At     time.Time
	// OOMKilled says that the kernel killed a process of the container for want of memory.
	OOMKilled bool `json:",omitempty"`
	// MemoryPeak is the highest use of memory in bytes, MemoryLimit the limit; 0 when unknown. They are read when the
	// container was killed by SIGKILL or had a limit.
	MemoryPeak  uint64 `json:",omitempty"`
	MemoryLimit uint64 `json:",omitempty"`
	// Unknown says that nobody could tell the exit status (keeper and client died on a kernel before 6.15); Code is 255.
	Unknown bool `json:",omitempty"`
}
