package client

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/url"
	"sort"
	"strconv"
	"strings"
)

// Request is one call of the API.
type Request struct {
	Method string
	// Path is without the version: "/containers/json".
	Path  string
	Query url.Values
	// Header holds further header fields.
	Header map[string]string
	// Body is sent with its length and may be sent again; Stream is sent in chunks, once. At most one is set.
	Body   []byte
	Stream io.Reader
	// StreamType is the Content-Type of Stream; tar when empty.
	StreamType string
}

// Get makes a GET request.
func Get(path string, q url.Values) *Request { return &Request{Method: "GET", Path: path, Query: q} }

// Post makes a POST request without a body.
func Post(path string, q url.Values) *Request { return &Request{Method: "POST", Path: path, Query: q} }

// Delete makes a DELETE request.
func Delete(path string, q url.Values) *Request {
	return &Request{Method: "DELETE", Path: path, Query: q}
}

// PostJSON makes a POST request whose body is v as JSON.
func PostJSON[T any](path string, q url.Values, v T) (*Request, error) {
	b, err := encode(v)
	if err != nil {
		return nil, fmt.Errorf("encode the request for %s: %w", path, err)
	}
	return &Request{Method: "POST", Path: path, Query: q, Body: b}, nil
}

// SetAuth puts credentials, already encoded as JSON, in the field that registry calls read them from.
func (r *Request) SetAuth(authJSON []byte) {
	if r.Header == nil {
		r.Header = map[string]string{}
	}
	r.Header["X-Registry-Auth"] = base64.URLEncoding.EncodeToString(authJSON)
}

// appendHead appends the request line and the header to b.
func (r *Request) appendHead(b []byte, version, agent string, hijack bool) ([]byte, error) {
	b = append(b, r.Method...)
	b = append(b, ' ')
	if version != "" {
		b = append(append(b, "/v"...), version...)
	}
	b = append(b, r.Path...)
	if len(r.Query) > 0 {
		b = append(append(b, '?'), r.Query.Encode()...)
	}
	b = append(b, " HTTP/1.1\r\nHost: kist\r\nUser-Agent: "...)
	b = append(append(b, agent...), "\r\n"...)
	names := make([]string, 0, len(r.Header))
	for k := range r.Header {
		names = append(names, k)
	}
	sort.Strings(names)
	for _, k := range names {
		if strings.ContainsAny(k, "\r\n: ") || strings.ContainsAny(r.Header[k], "\r\n") {
			return nil, fmt.Errorf("header field %q holds a line break", k)
		}
		b = append(append(append(append(b, k...), ": "...), r.Header[k]...), "\r\n"...)
	}
	if hijack {
		b = append(b, "Connection: Upgrade\r\nUpgrade: tcp\r\n"...)
	}
	switch {
	case r.Stream != nil:
		t := r.StreamType
		if t == "" {
			t = "application/x-tar"
		}
		b = append(append(append(b, "Content-Type: "...), t...), "\r\nTransfer-Encoding: chunked\r\n"...)
	case r.Body != nil:
		b = append(b, "Content-Type: application/json\r\nContent-Length: "...)
		b = append(strconv.AppendInt(b, int64(len(r.Body)), 10), "\r\n"...)
	case r.Method != "GET":
		b = append(b, "Content-Length: 0\r\n"...)
	}
	return append(b, "\r\n"...), nil
}

// writeChunks copies src to w in chunks and ends the body.
func writeChunks(w io.Writer, src io.Reader) error {
	const room = 16 // for the chunk's length line
	buf := make([]byte, room+128<<10+2)
	for {
		n, err := src.Read(buf[room : len(buf)-2])
		if n > 0 {
			line := strconv.AppendInt(make([]byte, 0, room), int64(n), 16)
			line = append(line, "\r\n"...)
			start := room - len(line)
			copy(buf[start:], line)
			copy(buf[room+n:], "\r\n")
			if _, werr := w.Write(buf[start : room+n+2]); werr != nil {
				return fmt.Errorf("send the body: %w", werr)
			}
		}
		if err == io.EOF {
			if _, werr := io.WriteString(w, "0\r\n\r\n"); werr != nil {
				return fmt.Errorf("send the body: %w", werr)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("read what is to be sent: %w", err)
		}
	}
}
