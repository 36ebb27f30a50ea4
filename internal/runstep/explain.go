package runstep

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"syscall"

	"github.com/kistdev/kist/internal/task"
)

// Exit statuses of a shell for programs that cannot be run.
const (
	statusNotFound      = 127
	statusNotExecutable = 126
)

// explain turns the failure to execute the command into the failure that a shell would tell, and says the cause where the
// command's own words would have been.
func (s *step) explain(err error) error {
	var x *task.ExecError
	if !errors.As(err, &x) {
		return fmt.Errorf("start build step: %w", err)
	}
	e := s.notExecuted(x)
	if s.Output != nil {
		_, _ = io.WriteString(s.Output, e.Tail) // Who does not listen has it in the error.
	}
	return e
}

func (s *step) notExecuted(x *task.ExecError) *ExitError {
	e := &ExitError{Args: s.Op.Meta.Args, Code: statusNotExecutable}
	switch {
	case x.Step == "chdir":
		e.Tail = fmt.Sprintf("cannot enter the working directory %s: %s\n", x.Path, x.Errno.Error())
		return e
	case x.Errno == syscall.ENOENT || x.Errno == syscall.ENOTDIR:
		e.Code = statusNotFound
		e.Tail = s.missing(x.Path)
	case x.Errno == syscall.ENOEXEC:
		e.Tail = fmt.Sprintf("exec: %s: exec format error: it is for another processor, or a script without a #! line\n", x.Path)
	default:
		e.Tail = fmt.Sprintf("exec: %s: %s\n", x.Path, x.Errno.Error())
	}
	return e
}

// missing says why a program cannot be found, and what else is there.
func (s *step) missing(program string) string {
	shells := []string{"/bin/sh", "/bin/bash", "/bin/ash", "/busybox/sh"}
	if program == s.Op.Meta.Args[0] && path.IsAbs(program) && s.has(program) {
		return fmt.Sprintf("exec: %s: its interpreter (the #! line, or the loader it was linked for) is not in this stage\n", program)
	}
	text := fmt.Sprintf("exec: %s: not found in this stage", program)
	if !slices.Contains(shells, program) {
		return text + "\n"
	}
	for _, other := range shells {
		if other != program && s.has(other) {
			return text + "; " + other + " is: add SHELL [\"" + other + "\", \"-c\"]\n"
		}
	}
	return text + ": it has no shell; use the exec form, RUN [\"program\", \"argument\"]\n"
}

// has says whether the stage has a file.
func (s *step) has(name string) bool {
	_, exists, err := s.r.cfg.Layers.Beneath(s.rootID(), name)
	return err == nil && exists
}
