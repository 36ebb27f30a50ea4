package cli

import (
	"os"
	"syscall"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/front"
)

// Continue waits for a command that the daemon carries out, and returns its exit code; gone says that the daemon has gone.
func Continue(c *front.Command, gone bool) int {
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv}
	if !gone {
		if c.Run {
			defer a.proxySignalsTo(func(s syscall.Signal) { c.Signal(int(s)) })()
		}
		if gone = c.Finish(0) == front.Lost; !gone {
			return c.Code()
		}
	}
	if c.ID == "" {
		err := &fault.Error{
			Code: "daemon-lost", What: "the daemon ended while it carried out the command", Try: "the same again",
			Class: errdefs.ErrUnavailable,
		}
		if c.Run {
			return a.report(badUse(err))
		}
		return a.report(err)
	}
	code, err := a.outlast(c)
	if err != nil {
		return a.report(badUse(err))
	}
	return code
}

// outlast asks the next daemon how a container has ended.
func (a *app) outlast(c *front.Command) (int, error) {
	cl, err := a.client()
	if err != nil {
		return 0, err
	}
	w := &watcher{cl: cl, id: c.ID, again: "not-running", urgent: make(chan struct{})}
	if c.Removed {
		w.again = "removed"
	}
	close(w.urgent) // the output has ended
	return w.insist()
}

// Why is the line that tells a person at a terminal how a container ended.
func Why(text string, coloured bool) string { return paint("ended:", "1", coloured) + " " + text }

// Complaint is what the client would write about the daemon's refusal to start a container, or with exec a command in one, and
// the exit code.
func Complaint(refusal *client.Error, exec, coloured bool) (text string, code int) {
	err := error(&exitError{code: startCode(refusal), err: refusal})
	if exec {
		err = execError(refusal)
	}
	code, told := codeOf(err)
	return complaint(told, coloured) + "\n", code
}
