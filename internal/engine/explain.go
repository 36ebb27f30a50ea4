package engine

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/task"
)

func mebibytes(n uint64) string {
	return units.CustomSize("%.4g%s", float64(n), 1024, []string{"B", "K", "M", "G", "T", "P"})
}

// What failed, in the words that docker's users know.
const (
	createFailed = "failed to create task for container: OCI runtime create failed: kist"
	execFailed   = "OCI runtime exec failed: exec failed"
)

// explain turns the failure to execute the container's program into what a person needs to know, in words in which
// docker's clients find the exit code: 127 for "executable file not found" and "no such file or directory", 126 for
// "permission denied" and "is a directory".
func (e *Engine) explain(d *definition, what string, err error) error {
	var x *task.ExecError
	if !errors.As(err, &x) {
		return err
	}
	found := e.examine(d, x)
	f := &fault.Error{
		Code:  found.code,
		Words: what + ": unable to start container process: " + execWords(x, found.directory),
		What:  fmt.Sprintf("cannot run %q: %s", x.Path, cmp.Or(found.cause, x.Errno.Error())),
		Cause: found.cause, Try: found.try, Class: errdefs.ErrInvalidArgument, Err: err,
	}
	if x.Step == "chdir" {
		f.What = fmt.Sprintf("cannot begin in %s: %s", x.Path, cmp.Or(found.cause, x.Errno.Error()))
	}
	if f.Code == "" {
		f.Code = codeOf(x.Errno)
	}
	if f.Cause == "" {
		f.Cause = "unknown" // As runc says where containerd has no class for it.
	}
	return f
}

// execWords are the words that docker's clients look for.
func execWords(x *task.ExecError, directory bool) string {
	switch {
	case x.Step == "chdir":
		return fmt.Sprintf("chdir to cwd (%q) set in config.json failed: %s", x.Path, x.Errno.Error())
	case directory || x.Errno == syscall.EISDIR:
		return fmt.Sprintf("exec: %q: is a directory", x.Path)
	case x.Errno == syscall.ENOENT && !strings.Contains(x.Path, "/"):
		return fmt.Sprintf("exec: %q: executable file not found in $PATH", x.Path)
	case x.Errno == syscall.ENOEXEC:
		return fmt.Sprintf("exec: %q: exec format error", x.Path)
	}
	return fmt.Sprintf("exec: %q: %s", x.Path, x.Errno.Error())
}

// codeOf is the fault's code where the file tells nothing more. The command line knows these codes' exit codes.
func codeOf(errno syscall.Errno) string {
	switch errno {
	case syscall.ENOENT, syscall.ENOTDIR:
		return "exec-not-found"
	case syscall.EACCES, syscall.EPERM:
		return "exec-permission"
	case syscall.EISDIR:
		return "exec-is-directory"
	case syscall.ENOEXEC:
		return "exec-format"
	}
	return "exec-not-executable"
}
