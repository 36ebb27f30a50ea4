package task

import (
	"errors"
	"syscall"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
)

// Failure is an error on its way through the socket. Its class and structure survive; what it wraps does not.
type Failure struct {
	Class   string `json:",omitempty"`
	Message string
	// Code, What, Cause and Try are a fault.Error's.
	Code  string `json:",omitempty"`
	What  string `json:",omitempty"`
	Cause string `json:",omitempty"`
	Try   string `json:",omitempty"`
	// Exec is an ExecError's.
	Exec *ExecFailure `json:",omitempty"`
	// Errno is the system's error, 0 if there was none.
	Errno int `json:",omitempty"`
}

// ExecFailure is an ExecError.
type ExecFailure struct {
	Path, Step string
	Errno      int
}

var classes = []struct {
	name string
	err  error
}{
	{"not found", errdefs.ErrNotFound},
	{"already exists", errdefs.ErrAlreadyExists},
	{"conflict", errdefs.ErrConflict},
	{"invalid argument", errdefs.ErrInvalidArgument},
	{"not implemented", errdefs.ErrNotImplemented},
	{"failed precondition", errdefs.ErrFailedPrecondition},
	{"permission denied", errdefs.ErrPermissionDenied},
	{"resource exhausted", errdefs.ErrResourceExhausted},
	{"unavailable", errdefs.ErrUnavailable},
}

// NewFailure packs an error; nil stays nil.
func NewFailure(err error) *Failure {
	if err == nil {
		return nil
	}
	f := &Failure{Message: err.Error()}
	for _, c := range classes {
		if errors.Is(err, c.err) {
			f.Class = c.name
			break
		}
	}
	if flt, ok := fault.As(err); ok {
		f.Code, f.What, f.Cause, f.Try = flt.Code, flt.What, flt.Cause, flt.Try
		if f.Cause == "" && flt.Err != nil {
			f.Cause = flt.Err.Error()
		}
	}
	var e *ExecError
	if errors.As(err, &e) {
		f.Exec = &ExecFailure{Path: e.Path, Step: e.Step, Errno: int(e.Errno)}
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		f.Errno = int(errno)
	}
	return f
}

// Err unpacks it.
func (f *Failure) Err() error {
	if f == nil {
		return nil
	}
	if f.Exec != nil {
		return &ExecError{Path: f.Exec.Path, Step: f.Exec.Step, Errno: syscall.Errno(f.Exec.Errno)}
	}
	var class error
	for _, c := range classes {
		if c.name == f.Class {
			class = c.err
		}
	}
	if f.Code != "" {
		return &fault.Error{Code: f.Code, What: f.What, Cause: f.Cause, Try: f.Try, Class: class, Err: f.errno()}
	}
	return &remoteError{message: f.Message, class: class, errno: f.errno()}
}

func (f *Failure) errno() error {
	if f.Errno == 0 {
		return nil
	}
	return syscall.Errno(f.Errno)
}

// remoteError is an error that happened in the keeper.
type remoteError struct {
	message      string
	class, errno error
}

func (e *remoteError) Error() string { return e.message }

func (e *remoteError) Unwrap() []error {
	var errs []error
	if e.class != nil {
		errs = append(errs, e.class)
	}
	if e.errno != nil {
		errs = append(errs, e.errno)
	}
	return errs
}
