package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

// ResponseError is a registry's answer that is not the wanted one.
type ResponseError struct {
	Status     int
	Method     string
	Host, Path string
	// Items are what the registry says about it, if it keeps to the specification.
	Items      []ErrorItem
	RetryAfter time.Duration
}

// ErrorItem is one error in a registry's answer: "NAME_UNKNOWN", "MANIFEST_UNKNOWN", "DENIED", ...
type ErrorItem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Error names the request and what the registry said.
func (e *ResponseError) Error() string {
	said := make([]string, 0, len(e.Items))
	for _, it := range e.Items {
		if it.Message == "" {
			it.Message = it.Code
		}
		said = append(said, it.Message)
	}
	text := fmt.Sprintf("%s %s%s: %d %s", e.Method, e.Host, e.Path, e.Status, http.StatusText(e.Status))
	if len(said) > 0 {
		text += ": " + strings.Join(said, ", ")
	}
	return text
}

// Unwrap gives the error's class.
func (e *ResponseError) Unwrap() error {
	switch {
	case e.Status == http.StatusUnauthorized:
		return errdefs.ErrUnauthenticated
	case e.Status == http.StatusForbidden:
		return errdefs.ErrPermissionDenied
	case e.Status == http.StatusNotFound:
		return errdefs.ErrNotFound
	case e.Status == http.StatusTooManyRequests, e.Status >= 500:
		return errdefs.ErrUnavailable
	}
	return errdefs.ErrInvalidArgument
}

// readResponseError reads what an answer says and closes it.
func readResponseError(res *http.Response) *ResponseError {
	defer res.Body.Close()
	e := &ResponseError{Status: res.StatusCode, RetryAfter: retryAfter(res.Header)}
	if req := res.Request; req != nil {
		e.Method, e.Host, e.Path = req.Method, req.URL.Host, req.URL.Path
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return e
	}
	var body struct {
		Errors  []ErrorItem `json:"errors"`
		Details string      `json:"details"`
		Message string      `json:"message"`
	}
	if json.Unmarshal(raw, &body) == nil {
		e.Items = body.Errors
		if text := body.Details + body.Message; len(e.Items) == 0 && text != "" {
			e.Items = []ErrorItem{{Message: text}}
		}
	}
	return e
}

// errStalled is the cause with which a download is cancelled that delivers nothing.
var errStalled = errors.New("the registry stopped sending")

// isBroken tells errors of connections that broke.
func isBroken(err error) bool {
	for _, e := range []error{
		io.ErrUnexpectedEOF, io.EOF, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED, syscall.ETIMEDOUT,
		syscall.EHOSTUNREACH, syscall.ENETUNREACH,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
