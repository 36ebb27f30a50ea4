package serve

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

func (c *call) blob(ref string) error {
	switch c.r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodDelete:
		return &refusal{
			status: http.StatusMethodNotAllowed, code: "UNSUPPORTED",
			message: "blobs go by themselves, when no manifest needs them any more",
		}
	default:
		return c.method("GET, HEAD")
	}
	d, err := parseDigest(ref)
	if err != nil {
		return err
	}
	size, err := c.s.shelf.Hold(d)
	if err != nil {
		return c.blobError(err)
	}
	h := c.w.Header()
	h.Set("Docker-Content-Digest", d.String())
	h.Set("Etag", `"`+d.String()+`"`)
	h.Set("Content-Type", "application/octet-stream")
	f, err := c.s.shelf.File(d)
	if errdefs.IsNotFound(err) {
		return c.stream(d, size)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	http.ServeContent(c.w, c.r, "", time.Time{}, f)
	return nil
}

func (c *call) blobError(err error) error {
	if errdefs.IsNotFound(err) {
		return &refusal{status: http.StatusNotFound, code: "BLOB_UNKNOWN", message: message(err), err: err}
	}
	return err
}

// stream sends a blob that is made while it is read. Of ranges it knows the ones that clients take to go on: one, with a
// start.
func (c *call) stream(d digest.Digest, size int64) error {
	h := c.w.Header()
	h.Set("Accept-Ranges", "bytes")
	from, to, part, err := byteRange(c.r.Header.Get("Range"), size)
	if err != nil {
		h.Set("Content-Range", "bytes */"+itoa(size))
		return &refusal{status: http.StatusRequestedRangeNotSatisfiable, code: "SIZE_INVALID", message: err.Error(), err: err}
	}
	status := http.StatusOK
	if part {
		status = http.StatusPartialContent
		h.Set("Content-Range", "bytes "+itoa(from)+"-"+itoa(to-1)+"/"+itoa(size))
	}
	h.Set("Content-Length", itoa(to-from))
	if c.r.Method == http.MethodHead {
		c.w.WriteHeader(status)
		return nil
	}
	r, err := c.s.shelf.Stream(c.r.Context(), d)
	if err != nil {
		h.Del("Content-Length")
		return c.blobError(err)
	}
	defer r.Close()
	if _, err := io.CopyN(io.Discard, r, from); err != nil {
		h.Del("Content-Length")
		return err
	}
	c.w.WriteHeader(status)
	if _, err := io.CopyN(c.w, r, to-from); err != nil {
		panic(http.ErrAbortHandler) // The answer has begun: the client must not take it for whole.
	}
	return nil
}

var errRange = errors.New("there is no such range in the blob")

// byteRange reads a Range field; what it does not understand means the whole blob, as the protocol allows.
func byteRange(field string, size int64) (from, to int64, part bool, err error) {
	spec, ok := strings.CutPrefix(field, "bytes=")
	first, last, dash := strings.Cut(spec, "-")
	if !ok || !dash || first == "" || strings.Contains(spec, ",") {
		return 0, size, false, nil
	}
	from, err = strconv.ParseInt(first, 10, 64)
	if err != nil || from < 0 {
		return 0, size, false, nil //nolint:nilerr // not understood
	}
	to = size
	if last != "" {
		end, err := strconv.ParseInt(last, 10, 64)
		if err != nil || end < from {
			return 0, size, false, nil //nolint:nilerr // not understood
		}
		to = min(size, end+1)
	}
	if from >= size {
		return 0, 0, false, errRange
	}
	return from, to, true, nil
}
