// Package fault is how kist says why something failed: what, the cause with its evidence, what to try next, and a
// stable code. A fault carries an errdefs class, so that one switch at the API's edge turns it into an HTTP status.
//
// Most errors need none of this and are plain wrapped errors. A fault is made where the cause is known for sure and a
// person will read it.
package fault

import (
	"errors"
	"strings"
)

// Error is a failure that a person can act on.
type Error struct {
	// Code is stable across versions, in lower-case words joined by dashes: "port-in-use".
	Code string
	// What failed, in a few words, without a trailing full stop: "cannot publish port 8080/tcp".
	What string
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
	b.WriteString(e.What)
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
