// Package fault is how kist says why something failed: what, the cause with its evidence, what to try next, and a
// stable code. A fault carries an errdefs class, so that one switch at the API's edge turns it into an HTTP status.
//
// Most errors need none of this and are plain wrapped errors. A fault is made where the cause is known for sure and a
// person will read it.
package fault

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/containerd/errdefs"
)

// Error is a failure that a person can act on.
type Error struct {
	// Code is stable across versions, in lower-case words joined by dashes: "port-in-use".
	Code string
	// What failed and, in a word, why, without a trailing full stop: "cannot publish port 8080/tcp: it is taken". It is the first
	// line that a person sees, and often the only one.
	What string
	// Words are What as docker says it, where programs look for its words in the one line that they get. Empty: the same.
	Words string
	// Cause says why, with the evidence: "held by nginx (pid 812)". May be empty.
	Cause string
	// Try is the next command or action. May be empty.
	Try string
	// Class is one of the errors of github.com/containerd/errdefs; nil means an internal error.
	Class error
	// Err is the underlying error, if there is one. Its text is not repeated in Error unless Cause holds it.
	Err error
}

// Error is the whole message on one line, for clients that show only one: docker's command line prints it as it is.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(cmp.Or(e.Words, e.What))
	switch {
	case e.Cause != "":
		b.WriteString(": " + e.Cause)
	case e.Err != nil:
		b.WriteString(": " + e.Err.Error())
	}
	if e.Try != "" {
		b.WriteString(" (try: " + e.Try + ")")
	}
	return b.String()
}

// Text is the message of an error without what to try, for the cause of another fault.
func Text(err error) string {
	f, ok := As(err)
	if !ok || f.Try == "" {
		return err.Error()
	}
	return strings.Replace(err.Error(), " (try: "+f.Try+")", "", 1)
}

// Lines is the whole message for a person: what failed with its code, the cause if the first line does not have it, and what to
// try.
func (e *Error) Lines() string {
	text := "error: " + e.What + " [" + e.Code + "]\n"
	if e.Cause != "" && !strings.Contains(e.What, e.Cause) {
		text += "cause: " + e.Cause + "\n"
	}
	if e.Try != "" {
		text += "try:   " + e.Try + "\n"
	}
	return text
}

// Unwrap gives both the class and the underlying error to errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	var errs []error
	if e.Class != nil {
		errs = append(errs, e.Class)
	}
	if e.Err != nil {
		errs = append(errs, e.Err)
	}
	return errs
}

// As returns the outermost fault in err's tree, if there is one.
func As(err error) (*Error, bool) {
	var f *Error
	ok := errors.As(err, &f)
	return f, ok
}

// ClassCode is the code of an error that has no fault of its own, by its class; "" for one that has no class either.
func ClassCode(err error) string {
	switch {
	case errdefs.IsNotFound(err):
		return "not-found"
	case errdefs.IsInvalidArgument(err), errdefs.IsOutOfRange(err):
		return "invalid-request"
	case errdefs.IsConflict(err), errdefs.IsAlreadyExists(err), errdefs.IsFailedPrecondition(err):
		return "conflict"
	case errdefs.IsUnauthorized(err):
		return "not-authenticated"
	case errdefs.IsPermissionDenied(err):
		return "not-permitted"
	case errdefs.IsNotImplemented(err):
		return "not-implemented"
	case errdefs.IsResourceExhausted(err):
		return "exhausted"
	case errdefs.IsUnavailable(err):
		return "unavailable"
	case errors.Is(err, context.DeadlineExceeded):
		return "timed-out"
	case errdefs.IsInternal(err):
		return "internal"
	}
	return ""
}
