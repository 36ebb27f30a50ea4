package runstep

import (
	"fmt"
	"strings"

	"github.com/docker/go-units"
)

// ExitError is a command that ended with a status that means failure.
type ExitError struct {
	// Args is the command.
	Args []string
	// Code is what a shell would say: the exit status, or 128 and the signal's number.
	Code int
	// Signal that ended it; 0 if it exited by itself.
	Signal int
	// Tail is the end of the output, of both streams as they were written.
	Tail string
	// OOMKilled says that the kernel killed a process of the step for want of memory; MemoryLimit is the limit of its
	// control group in bytes, 0 if it has none.
	OOMKilled   bool
	MemoryLimit uint64
}

func (e *ExitError) Error() string {
	text := fmt.Sprintf("process %q did not complete successfully: exit code: %d", strings.Join(e.Args, " "), e.Code)
	switch {
	case e.OOMKilled && e.MemoryLimit > 0:
		text += " (killed by the kernel: over " + units.BytesSize(float64(e.MemoryLimit)) + " of memory)"
	case e.OOMKilled:
		text += " (killed by the kernel: out of memory)"
	}
	return text
}
