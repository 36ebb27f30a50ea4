package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
)

// StatusOf is the one place where an error's class becomes an HTTP status.
func StatusOf(err error) int {
	switch {
	case errdefs.IsNotFound(err):
		return http.StatusNotFound
	case errdefs.IsInvalidArgument(err), errdefs.IsOutOfRange(err):
		return http.StatusBadRequest
	case errdefs.IsConflict(err), errdefs.IsAlreadyExists(err), errdefs.IsFailedPrecondition(err):
		return http.StatusConflict
	case errdefs.IsUnauthorized(err):
		return http.StatusUnauthorized
	case errdefs.IsPermissionDenied(err):
		return http.StatusForbidden
	case errdefs.IsNotModified(err):
		return http.StatusNotModified
	case errdefs.IsNotImplemented(err):
		return http.StatusNotImplemented
	case errdefs.IsUnavailable(err):
		return http.StatusServiceUnavailable
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout
	default:
		return http.StatusInternalServerError
	}
}

// ErrorBody is docker's error body; the further fields are kist's own, for clients that can show more than a line.
type ErrorBody struct {
	Message string `json:"message"`
	Code    string `json:"code,omitempty"`
	What    string `json:"what,omitempty"`
	Cause   string `json:"cause,omitempty"`
	Try     string `json:"try,omitempty"`
}

// BodyOf returns what a client is told about an error.
func BodyOf(err error) ErrorBody {
	b := ErrorBody{Message: message(err)}
	f, ok := fault.As(err)
	if ok {
		b.Code, b.What, b.Cause, b.Try = f.Code, f.What, f.Cause, f.Try
		if b.Cause == "" && f.Err != nil {
			b.Cause = message(f.Err)
		}
	}
	if b.Code == "" {
		b.Code = cmp.Or(fault.ClassCode(err), "internal")
	}
	return b
}

// classes are the texts of the errdefs classes, which tell a person nothing that the message does not.
var classes = []error{
	errdefs.ErrNotFound, errdefs.ErrInvalidArgument, errdefs.ErrConflict, errdefs.ErrAlreadyExists,
	errdefs.ErrFailedPrecondition, errdefs.ErrUnauthenticated, errdefs.ErrPermissionDenied, errdefs.ErrNotImplemented,
	errdefs.ErrUnavailable, errdefs.ErrInternal, errdefs.ErrNotModified, errdefs.ErrOutOfRange,
}

// message is the error's text without the class it ends in.
func message(err error) string {
	text := err.Error()
	for _, c := range classes {
		if errors.Is(err, c) { // The kernel's "invalid argument" is no class.
			text = strings.TrimSuffix(text, ": "+c.Error())
		}
	}
	return text
}

// lines is an error as kist's own command writes it.
func lines(err error) string {
	b := BodyOf(err)
	f := fault.Error{Code: b.Code, What: cmp.Or(b.What, b.Message), Cause: b.Cause, Try: b.Try}
	return f.Lines()
}

func writeError(w http.ResponseWriter, err error) {
	status := StatusOf(err)
	if status == http.StatusNotModified { // RFC 9110 section 15.4.5: no content.
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(BodyOf(err)) // A client that is gone is told nothing.
}

// clientGone says that writing failed because the client went away.
func clientGone(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrClosedPipe)
}
