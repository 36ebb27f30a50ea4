package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
)

// notRunning tells that a dial failed because no daemon listens.
func notRunning(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED)
}

// lostConn tells that a connection ended before the answer began.
func lostConn(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// explain turns a failed dial into what a person can act on.
func (e Endpoint) explain(err error) error {
	f := &fault.Error{Code: "daemon-unreachable", What: "cannot reach the daemon at " + e.String(), Class: errdefs.ErrUnavailable, Err: err}
	switch {
	case errors.Is(err, fs.ErrPermission):
		f.Code, f.Cause, f.Class = "daemon-no-permission", "this user may not open the socket", errdefs.ErrPermissionDenied
		f.Try = "sudo kist ..., or let the socket's group include this user"
		if e.Own && os.Geteuid() != 0 {
			f.Try = "sudo kist ..."
		}
		f.What += ": " + f.Cause
	case notRunning(err) && e.Own:
		f.Code, f.Cause, f.Try = "daemon-not-running", "no daemon is running, and starting one was forbidden", "kistd"
		if flags := e.Roots.flags(); len(flags) > 0 {
			f.Try += " " + strings.Join(flags, " ")
		}
		f.What += ": no daemon is running"
	case errors.Is(err, syscall.ENOENT):
		f.Code, f.Cause = "daemon-wrong-socket", "there is no such socket, and "+e.From+" names it"
		f.What += ": there is no such socket"
		f.Try = e.unset()
	case errors.Is(err, syscall.ECONNREFUSED):
		f.Code, f.Cause = "daemon-not-running", "nothing listens there, and "+e.From+" names it"
		f.Try = "start that daemon, or " + e.unset()
		f.What += ": nothing listens there"
	case e.Scheme == "unix" && len(e.Addr) >= longestSocket:
		f.Code, f.Cause, f.Try = "daemon-socket-path", fmt.Sprintf("it has %d bytes, and the kernel takes %d", len(e.Addr), longestSocket-1), "a shorter KIST_EXEC_ROOT"
		f.What += ": the path of its socket is too long"
	case errors.As(err, new(*tls.CertificateVerificationError)):
		f.Code, f.Cause = "daemon-certificate", err.Error()
		f.Try = "--tlscacert FILE with the authority that signed the daemon's certificate"
		f.What += ": its certificate is not trusted"
	default:
		f.Try = "check the address and the network"
	}
	return f
}

// longestSocket is one more than what a socket's path may have.
const longestSocket = 108

// unset is the command that makes kist use its own daemon.
func (e Endpoint) unset() string {
	switch {
	case e.From == "--host":
		return "leave --host out to use kist's own daemon"
	case strings.HasPrefix(e.From, "the context "):
		return "kist --context default ... to use kist's own daemon"
	}
	return "unset " + e.From
}

// lost explains a connection that ended in the middle.
func (e Endpoint) lost(err error) error {
	if said := (*sshError)(nil); errors.As(err, &said) {
		return &fault.Error{
			Code: "daemon-ssh", What: "cannot reach the daemon at " + e.String() + ": ssh failed", Cause: said.text,
			Try: "ssh " + e.Addr + " kist version", Class: errdefs.ErrUnavailable, Err: err,
		}
	}
	if !lostConn(err) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	f := &fault.Error{
		Code: "daemon-hung-up", What: "the daemon at " + e.String() + " closed the connection without an answer",
		Class: errdefs.ErrUnavailable, Err: err,
	}
	if e.Own {
		f.Cause = "it may have been stopped or have crashed; containers go on without it"
		f.Try = "run the command again; the daemon's log is " + e.Roots.Log()
	}
	return f
}
