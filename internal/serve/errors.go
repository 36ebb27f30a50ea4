package serve

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/image"
)

// refusal is an answer of the registry that is an error, in the specification's terms.
type refusal struct {
	status        int
	code, message string
	err           error
}

func (e *refusal) Error() string { return e.message }
func (e *refusal) Unwrap() error { return e.err }

// errorBody is how the specification wants errors.
type errorBody struct {
	Errors []errorItem `json:"errors"`
}

type errorItem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// fail answers with an error.
func (c *call) fail(err error) {
	e := c.refusal(err)
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Del("Content-Length")
	c.w.WriteHeader(e.status)
	if c.r.Method == http.MethodHead {
		return
	}
	_ = json.NewEncoder(c.w).Encode(errorBody{[]errorItem{{e.code, e.message}}}) // A client that is gone is told nothing.
}

// refusal says in the specification's terms what went wrong.
func (c *call) refusal(err error) *refusal {
	var known *refusal
	if errors.As(err, &known) {
		return known
	}
	e := &refusal{status: http.StatusInternalServerError, code: "UNKNOWN", message: message(err), err: err}
	var missing *image.MissingError
	switch {
	case errors.As(err, &missing):
		e.status, e.code = http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN"
	case errdefs.IsNotFound(err):
		e.status, e.code = http.StatusNotFound, "NAME_UNKNOWN"
	case errdefs.IsDataLoss(err):
		e.status, e.code = http.StatusBadRequest, "DIGEST_INVALID"
	case errdefs.IsInvalidArgument(err), errdefs.IsNotImplemented(err):
		e.status, e.code = http.StatusBadRequest, "MANIFEST_INVALID"
	case errdefs.IsResourceExhausted(err):
		e.status, e.code = http.StatusInsufficientStorage, "DENIED"
	}
	return e
}

// message is one line for clients that show one.
func message(err error) string {
	if f, ok := fault.As(err); ok {
		return f.Error()
	}
	return err.Error()
}

// parseDigest reads a digest that a client sent.
func parseDigest(s string) (digest.Digest, error) {
	d, err := digest.Parse(s)
	if err != nil {
		return "", &refusal{status: http.StatusBadRequest, code: "DIGEST_INVALID", message: "digest: " + err.Error(), err: err}
	}
	return d, nil
}

func (c *call) json(status int, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/json")
	return c.bytes(status, raw)
}

// bytes answers with a body that is known whole.
func (c *call) bytes(status int, raw []byte) error {
	c.w.Header().Set("Content-Length", itoa(int64(len(raw))))
	c.w.WriteHeader(status)
	if c.r.Method != http.MethodHead {
		_, _ = c.w.Write(raw) // A client that is gone is told nothing.
	}
	return nil
}

// method refuses all methods but some.
func (c *call) method(allowed string) error {
	c.w.Header().Set("Allow", allowed)
	return &refusal{status: http.StatusMethodNotAllowed, code: "UNSUPPORTED", message: c.r.Method + " is not supported here"}
}
