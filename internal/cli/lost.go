package cli

import (
	"errors"
	"io"
	"syscall"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
)

// lostDaemon makes a fault of an answer that ends before it is complete: the daemon ended, or met an error that it could only
// log, because the answer had begun. Other errors stay as they are.
func lostDaemon(err error) error {
	if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
		return err
	}
	return &fault.Error{
		Code: "daemon-lost", What: "the daemon broke off before the command was done", Cause: err.Error(),
		Try: "the same again; if it stays so, kist doctor --deep and the daemon's log say why", Class: errdefs.ErrUnavailable, Err: err,
	}
}
