package fault

import (
	"cmp"
	"errors"
	"strings"

	"github.com/containerd/errdefs"
)

// Parts are an error as it goes to a client in JSON: docker's error body, and what that one line is made of for clients that can
// show more. The protocols between kist's own programs put them into their messages.
type Parts struct {
	Message string `json:"message"`
	// Code, What, Cause and Try are an Error's; an error that is none has a code only, by its class.
	Code  string `json:"code,omitempty"`
	What  string `json:"what,omitempty"`
	Cause string `json:"cause,omitempty"`
	Try   string `json:"try,omitempty"`
}

// PartsOf takes an error apart.
func PartsOf(err error) Parts {
	p := Parts{Message: message(err)}
	if f, ok := As(err); ok {
		p.Code, p.What, p.Cause, p.Try = f.Code, f.What, f.Cause, f.Try
		if p.Cause == "" && f.Err != nil {
			p.Cause = message(f.Err)
		}
	}
	if p.Code == "" {
		p.Code = cmp.Or(ClassCode(err), "internal")
	}
	return p
}

// classes are those whose texts tell a person nothing that the message does not.
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
