package client

import (
	"errors"
	"io"
	"net/url"
)

// Do makes a request. An answer with a status of 400 or more is an *Error.
func (c *Client) Do(r *Request) (*Response, error) {
	cn, resp, err := c.negotiated(r, false)
	if err != nil {
		return nil, err
	}
	if err := c.attachBody(r, cn, resp); err != nil {
		return nil, err
	}
	if resp.Status >= 400 {
		return nil, readError(resp)
	}
	return resp, nil
}

// Call makes a request whose answer has no interesting body.
func (c *Client) Call(r *Request) error {
	resp, err := c.Do(r)
	if err != nil {
		return err
	}
	// The body is read to its end only to keep the connection.
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// CallJSON makes a request and decodes its answer.
func CallJSON[T any](c *Client, r *Request) (*T, error) {
	resp, err := c.Do(r)
	if err != nil {
		return nil, err
	}
	return DecodeJSON[T](resp)
}

// Tell posts JSON and ignores the answer.
func Tell[T any](c *Client, path string, q url.Values, body T) error {
	r, err := PostJSON(path, q, body)
	if err != nil {
		return err
	}
	return c.Call(r)
}

// Ask posts JSON and decodes the answer.
func Ask[A, T any](c *Client, path string, q url.Values, body T) (*A, error) {
	r, err := PostJSON(path, q, body)
	if err != nil {
		return nil, err
	}
	return CallJSON[A](c, r)
}
