package client

import (
	"errors"
	"io"
	"strings"
)

// NewestAPI is the API version that is spoken to a daemon that does not say it is older.
const NewestAPI = "1.56"

// negotiated makes a request; when the daemon says that it is older, once more in its version.
func (c *Client) negotiated(r *Request, hijack bool) (*conn, *Response, error) {
	if r.Stream != nil {
		if err := c.learnVersion(); err != nil {
			return nil, nil, err
		}
	}
	cn, resp, err := c.roundTrip(r, hijack)
	if err != nil {
		return nil, nil, err
	}
	if resp.Status != 400 || r.Stream != nil || c.isKnown() {
		if resp.Status < 400 {
			c.accept("")
		}
		return cn, resp, nil
	}
	if err := c.attachBody(r, cn, resp); err != nil {
		return nil, nil, err
	}
	refusal := readError(resp)
	if v := newestOf(refusal.Error()); v != "" {
		c.accept(v)
		return c.roundTrip(r, hijack)
	}
	return nil, nil, refusal
}

func (c *Client) isKnown() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known
}

func (c *Client) accept(version string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if version != "" {
		c.version = version
	}
	c.known = true
}

// learnVersion asks the daemon for its version before a body is sent that cannot be sent again.
func (c *Client) learnVersion() error {
	if c.isKnown() {
		return nil
	}
	resp, err := c.Do(Get("/version", nil))
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// newestOf finds the version in a daemon's "client version 1.56 is too new. Maximum supported API version is 1.41".
// Docker has no other sign for it: the status is 400 and the header does not always name the version.
func newestOf(message string) string {
	_, v, ok := strings.Cut(message, "Maximum supported API version is ")
	if !ok {
		return ""
	}
	end := strings.IndexFunc(v, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if end >= 0 {
		v = v[:end]
	}
	if v = strings.Trim(v, "."); len(v) > 8 {
		return ""
	}
	return v
}
