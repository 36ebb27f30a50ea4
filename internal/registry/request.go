package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"syscall"
)

// request is one question to a registry, to be sent as often as needed.
type request struct {
	method string
	path   string // below /v2/, or from the root with a slash in front
	// absolute is the whole address instead of path, as servers give in Location and Link.
	absolute string
	header   http.Header
	scopes   []string
	// body opens what is sent; nil is no body.
	body func() (io.ReadCloser, error)
	size int64
}

// send asks one endpoint, with credentials if it wants them. The answer may have any status; its body must be closed.
func (e *endpoint) send(ctx context.Context, r request) (*http.Response, error) {
	var sent string
	for try := 0; ; try++ {
		var err error
		if r.absolute == "" || e.owns(r.absolute) {
			if sent, err = e.authorization(ctx, r.scopes); err != nil {
				return nil, err
			}
		}
		res, err := e.once(ctx, r, sent)
		if err != nil {
			return nil, err
		}
		if res.StatusCode != http.StatusUnauthorized || try == 1 || !e.challenged(res, sent, r.scopes) {
			return res, nil
		}
		drain(res.Body)
	}
}

// owns says whether the address is this endpoint's: credentials go nowhere else.
func (e *endpoint) owns(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Host == e.host
}

// once sends the request, by HTTPS first and then, where that is allowed, by plain HTTP.
func (e *endpoint) once(ctx context.Context, r request, authorization string) (*http.Response, error) {
	e.mu.Lock()
	scheme := e.scheme
	e.mu.Unlock()
	if scheme != "" || r.absolute != "" {
		return e.over(ctx, scheme, r, authorization)
	}
	res, err := e.over(ctx, "https", r, authorization)
	if err != nil && e.insecure && ctx.Err() == nil {
		scheme = "http"
		var plainErr error
		res, plainErr = e.over(ctx, scheme, r, authorization)
		if plainErr == nil || errors.Is(err, http.ErrSchemeMismatch) || errors.Is(plainErr, syscall.ECONNREFUSED) {
			err = plainErr
		}
	} else {
		scheme = "https"
	}
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	e.scheme = scheme
	e.mu.Unlock()
	return res, nil
}

func (e *endpoint) over(ctx context.Context, scheme string, r request, authorization string) (*http.Response, error) {
	address := r.absolute
	if address == "" {
		address = e.url(scheme, r.path)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, address, nil)
	if err != nil {
		return nil, err
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", e.agent)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	if r.body != nil {
		if req.Body, err = r.body(); err != nil {
			return nil, &localError{err}
		}
		req.ContentLength = r.size
		req.GetBody = r.body
		if r.size == 0 {
			req.Body.Close()
			req.Body = http.NoBody
		}
	}
	res, err := e.http.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	return res, nil
}

// localError is a failure of this side, which no other attempt mends.
type localError struct{ err error }

func (l *localError) Error() string { return l.err.Error() }
func (l *localError) Unwrap() error { return l.err }

// withoutURL takes the address off net/http's error: signed ones are long, and secret.
func withoutURL(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return fmt.Errorf("%s: %w", ue.Op, ue.Err)
	}
	return err
}

// drain reads the rest of a small answer, so that its connection can be used again.
func drain(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, 64<<10)
	body.Close()
}
