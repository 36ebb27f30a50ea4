package client

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Response is the daemon's answer. Its body must be closed.
type Response struct {
	Status int
	// Header has lower-case names; of a repeated field the last value counts.
	Header map[string]string
	Body   io.ReadCloser
}

// Length is how many bytes the body has, 0 if the daemon did not say.
func (r *Response) Length() int64 {
	n, err := strconv.ParseInt(r.Header["content-length"], 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// Limits on what a header may hold, so that a hostile daemon cannot fill the memory.
const (
	maxHeaderLine   = 64 << 10
	maxHeaderFields = 256
)

var errHeader = errors.New("malformed HTTP response")

// readLine reads a line without its end.
func readLine(r *bufio.Reader) (string, error) {
	var long []byte
	for {
		part, err := r.ReadSlice('\n')
		if err == nil && long == nil {
			return strings.TrimRight(string(part), "\r\n"), nil
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			if err == io.EOF && len(part)+len(long) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return "", err
		}
		if long = append(long, part...); len(long) > maxHeaderLine {
			return "", fmt.Errorf("%w: a line of more than %d bytes", errHeader, maxHeaderLine)
		}
		if err == nil {
			return strings.TrimRight(string(long), "\r\n"), nil
		}
	}
}

// readHead reads the status line and the header, skipping interim answers other than a switch of protocols.
func readHead(r *bufio.Reader) (*Response, error) {
	for {
		resp, err := readOneHead(r)
		if err != nil || resp.Status >= 200 || resp.Status == 101 {
			return resp, err
		}
	}
}

func readOneHead(r *bufio.Reader) (*Response, error) {
	line, err := readLine(r)
	if err != nil {
		return nil, err
	}
	proto, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if err != nil || !strings.HasPrefix(proto, "HTTP/1.") || len(code) != 3 {
		return nil, fmt.Errorf("%w: status line %.80q", errHeader, line)
	}
	resp := &Response{Status: status, Header: make(map[string]string, 12)}
	if proto == "HTTP/1.0" {
		resp.Header["connection"] = "close"
	}
	for range maxHeaderFields {
		line, err := readLine(r)
		if err != nil {
			return nil, noEOF(err)
		}
		if line == "" {
			return resp, nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("%w: header line %.80q", errHeader, line)
		}
		resp.Header[strings.ToLower(name)] = strings.TrimSpace(value)
	}
	return nil, fmt.Errorf("%w: more than %d header fields", errHeader, maxHeaderFields)
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// body returns the reader of a response's body, and whether the connection can be used again after its end.
func (resp *Response) body(method string, r *bufio.Reader) (body io.Reader, reusable bool, err error) {
	keep := !strings.EqualFold(resp.Header["connection"], "close")
	switch {
	case method == "HEAD", resp.Status == 204, resp.Status == 304:
		return eofReader{}, keep, nil
	case strings.EqualFold(resp.Header["transfer-encoding"], "chunked"):
		return &chunked{r: r}, keep, nil
	}
	if s, ok := resp.Header["content-length"]; ok {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 {
			return nil, false, fmt.Errorf("%w: content length %.40q", errHeader, s)
		}
		return &counted{r: r, left: n}, keep, nil
	}
	return r, false, nil
}

type eofReader struct{}

func (eofReader) Read([]byte) (int, error) { return 0, io.EOF }

// counted reads a body of known length; a shorter one is an error.
type counted struct {
	r    *bufio.Reader
	left int64
}

func (c *counted) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := c.r.Read(p)
	c.left -= int64(n)
	if c.left > 0 {
		err = noEOF(err)
	}
	return n, err
}

// chunked reads a body in chunks.
type chunked struct {
	r    *bufio.Reader
	left int64
	mid  bool // a chunk's data was read and its line end is next
	err  error
}

func (c *chunked) Read(p []byte) (int, error) {
	if c.err != nil || len(p) == 0 {
		return 0, c.err
	}
	if c.left == 0 {
		if c.err = c.next(); c.err != nil {
			return 0, c.err
		}
	}
	if int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := c.r.Read(p)
	c.left -= int64(n)
	c.err = noEOF(err)
	return n, c.err
}

// next reads the line before a chunk; at the last one also the trailer, and returns io.EOF.
func (c *chunked) next() error {
	if c.mid {
		if line, err := readLine(c.r); err != nil || line != "" {
			return c.broken("end of chunk", line, err)
		}
	}
	line, err := readLine(c.r)
	if err != nil {
		return noEOF(err)
	}
	size, _, _ := strings.Cut(line, ";")
	n, err := strconv.ParseUint(strings.TrimSpace(size), 16, 62)
	if err != nil {
		return c.broken("chunk size", line, nil)
	}
	c.left, c.mid = int64(n), true
	if n > 0 {
		return nil
	}
	for range maxHeaderFields {
		line, err := readLine(c.r)
		if err != nil {
			return noEOF(err)
		}
		if line == "" {
			return io.EOF
		}
	}
	return c.broken("trailer", "", nil)
}

func (c *chunked) broken(what, line string, err error) error {
	if err != nil {
		return noEOF(err)
	}
	return fmt.Errorf("%w: %s %.40q", errHeader, what, line)
}

// DecodeJSON reads a response's body into a new T and closes it.
func DecodeJSON[T any](resp *Response) (*T, error) {
	defer resp.Body.Close()
	v := new(T)
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read the daemon's answer: %w", err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return nil, fmt.Errorf("decode the daemon's answer: %w", err)
	}
	return v, nil
}
