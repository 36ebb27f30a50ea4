package task

import (
	"fmt"
	"syscall"
)

// ExecError is a process that could not be started because of its program or working directory, not because of the
// engine. Docker's clients exit with 127 for ENOENT and 126 for the rest.
type ExecError struct {
	Path  string // what was to be executed, or the working directory
	Step  string // "execve", "chdir", "lookup"
	Errno syscall.Errno
}

func (e *ExecError) Error() string { return fmt.Sprintf("%s %s: %s", e.Step, e.Path, e.Errno.Error()) }

func (e *ExecError) Unwrap() error { return e.Errno }
