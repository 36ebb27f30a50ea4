package spec

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
)

// invalid is a fault of the request, in docker's words where docker has some.
func invalid(code, format string, args ...any) error {
	return &fault.Error{Code: code, What: fmt.Sprintf(format, args...), Class: errdefs.ErrInvalidArgument}
}

// tryInstead adds to a fault what to try.
func tryInstead(try string, err error) error {
	if f, ok := fault.As(err); ok {
		f.Try = try
	}
	return err
}

// unserved is something that docker does and kist does not yet.
func unserved(code, format string, args ...any) error {
	return &fault.Error{Code: code, What: fmt.Sprintf(format, args...), Class: errdefs.ErrNotImplemented}
}
