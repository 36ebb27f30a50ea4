package client

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
)

// Error is a refusal by the daemon.
type Error struct {
	// Status is the HTTP status.
	Status int
	// Message is Docker's one line; other daemons than kist's send nothing else.
	fault.Parts
}

// Error returns the daemon's line as it came.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the class of the status.
func (e *Error) Unwrap() error {
	switch e.Status {
	case 304:
		return errdefs.ErrNotModified
	case 400:
		return errdefs.ErrInvalidArgument
	case 401:
		return errdefs.ErrUnauthenticated
	case 403:
		return errdefs.ErrPermissionDenied
	case 404:
		return errdefs.ErrNotFound
	case 409:
		return errdefs.ErrConflict
	case 501:
		return errdefs.ErrNotImplemented
	case 503:
		return errdefs.ErrUnavailable
	}
	return errdefs.ErrInternal
}

// maxErrorBody bounds what is read of a refusal.
const maxErrorBody = 1 << 20

// readError makes an Error of a response and uses its body up.
func readError(r *Response) error {
	defer r.Body.Close()
	e := &Error{Status: r.Status}
	b, err := io.ReadAll(io.LimitReader(r.Body, maxErrorBody))
	if err != nil && len(b) == 0 {
		return fmt.Errorf("read the daemon's refusal (status %d): %w", r.Status, err)
	}
	if json.Unmarshal(b, &e.Parts) == nil && e.Message != "" {
		return e
	}
	e.Parts = fault.Parts{Message: strings.TrimSpace(string(b))}
	if e.Message == "" {
		e.Message = fmt.Sprintf("the daemon answered with status %d and no reason", r.Status)
	}
	return e
}
