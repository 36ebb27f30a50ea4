package client

import (
	"bufio"
)

// Stream is a connection that was switched from HTTP to raw bytes.
type Stream struct {
	conn *conn
	// Multiplexed tells that the daemon sends standard output and error in frames.
	Multiplexed bool
}

// Hijack makes a request that turns its connection into a stream.
func (c *Client) Hijack(r *Request) (*Stream, error) {
	cn, resp, err := c.negotiated(r, true)
	if err != nil {
		return nil, err
	}
	if resp.Status == 101 || resp.Status == 200 {
		return &Stream{conn: cn, Multiplexed: resp.Header["content-type"] == "application/vnd.docker.multiplexed-stream"}, nil
	}
	if err := c.attachBody(r, cn, resp); err != nil {
		return nil, err
	}
	return nil, readError(resp)
}

// Reader returns the daemon's side.
func (s *Stream) Reader() *bufio.Reader { return s.conn.r }

// Write sends to the daemon.
func (s *Stream) Write(p []byte) (int, error) { return s.conn.Write(p) }

// CloseWrite tells the daemon that nothing more comes.
func (s *Stream) CloseWrite() error { return s.conn.CloseWrite() }

// Close ends the stream.
func (s *Stream) Close() error { return s.conn.Close() }

// DialRaw connects to the daemon without speaking, starting it as a request would.
func (c *Client) DialRaw() (*Stream, error) {
	cn, err := c.get()
	if err != nil {
		return nil, err
	}
	return &Stream{conn: cn}, nil
}
