package cli

import (
	"errors"
	"io"
	"net/url"
	"sync"

	"github.com/kistdev/kist/internal/client"
)

// session is a container's streams joined to this process's.
type session struct {
	app     *app
	stream  *client.Stream
	streams streams
	keys    []byte
	out     chan error
	in      chan error
	restore func()
	ending  sync.Once
}

// attach joins a container; nothing is copied before begin.
func (a *app) attach(cl *client.Client, id string, st streams, keys []byte) (*session, error) {
	q := url.Values{"stream": {"1"}}
	for k, set := range map[string]bool{"stdin": st.in, "stdout": st.out, "stderr": st.err} {
		if set {
			q.Set(k, "1")
		}
	}
	if len(keys) > 0 {
		q.Set("detachKeys", formatKeys(keys))
	}
	stream, err := cl.Hijack(client.Post(containerPath(id, "/attach"), q))
	if err != nil {
		return nil, err
	}
	return a.newSession(stream, st, keys), nil
}

func (a *app) newSession(stream *client.Stream, st streams, keys []byte) *session {
	return &session{
		app: a, stream: stream, streams: st, keys: keys, out: make(chan error, 1), in: make(chan error, 1), restore: func() {},
	}
}

// begin switches the terminal and starts to copy.
func (s *session) begin() error {
	if s.streams.in && s.streams.tty {
		restore, err := rawTerminal(s.app.in)
		if err != nil {
			return err
		}
		s.restore = restore
	}
	go func() { s.out <- s.copyOut() }()
	if s.streams.in {
		go func() { s.in <- s.copyIn() }()
	}
	return nil
}

// copyOut copies the container's output until it ends.
func (s *session) copyOut() error {
	if s.streams.tty {
		_, err := io.Copy(s.app.out, s.stream.Reader())
		return err
	}
	return client.Demux(s.app.out, s.app.err, s.stream.Reader())
}

// copyIn copies this process's input. Keys are looked for only where a person types.
func (s *session) copyIn() error {
	src := s.app.in
	if s.streams.tty && len(s.keys) > 0 {
		src = &keyReader{src: src, keys: s.keys}
	}
	_, err := io.Copy(s.stream, src)
	if errors.Is(err, errDetached) {
		return err
	}
	// The container may have closed its side first; its output says what there is to say.
	_ = s.stream.CloseWrite()
	return nil
}

// wait returns when the output has ended, or with errDetached when the keys were pressed.
func (s *session) wait() error {
	for {
		select {
		case err := <-s.out:
			return err
		case err := <-s.in:
			if errors.Is(err, errDetached) {
				s.close()
				return err
			}
			s.in = nil // the output goes on without input
		}
	}
}

// close ends the stream and gives the terminal back.
func (s *session) close() {
	s.ending.Do(func() {
		s.stream.Close()
		s.restore()
	})
}
