package layer

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"sync"
	"sync/atomic"

	"github.com/kistdev/kist/internal/archive"
)

const (
	chunkSize  = 256 << 10
	chunkCount = 8 // per stream: its memory
)

// chunk is a piece of the uncompressed tar that two readers share.
type chunk struct {
	data  []byte
	users atomic.Int32
}

// stream decompresses in one goroutine and hashes in another, while a third reads it as an io.Reader. Every chunk is
// given to both readers and reused when both are done with it, so the slowest one sets the pace and memory is bounded.
type stream struct {
	src    recorder
	hash   hash.Hash
	free   chan *chunk
	toHash chan *chunk
	toRead chan *chunk
	stop   chan struct{}
	done   sync.WaitGroup
	err    error // why the producer ended; valid once toRead is closed

	current *chunk // being read
	rest    []byte
}

// recorder remembers that the compressed stream could not be read, as opposed to being wrong.
type recorder struct {
	r   io.Reader
	err error
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

func newStream(r io.Reader) *stream {
	s := &stream{
		src: recorder{r: r}, hash: sha256.New(), stop: make(chan struct{}),
		free: make(chan *chunk, chunkCount), toHash: make(chan *chunk, chunkCount), toRead: make(chan *chunk, chunkCount),
	}
	for range chunkCount {
		s.free <- new(chunk)
	}
	s.done.Add(2)
	go func() { defer s.done.Done(); s.produce() }()
	go func() { defer s.done.Done(); s.sum() }()
	return s
}

// produce decompresses into chunks until the end, an error or stop.
func (s *stream) produce() {
	defer close(s.toRead)
	defer close(s.toHash)
	rc, _, err := archive.Decompress(&s.src)
	if err != nil {
		s.err = err
		return
	}
	defer rc.Close()
	for {
		var c *chunk
		select {
		case c = <-s.free:
		case <-s.stop:
			return
		}
		n, err := readChunk(rc, c)
		if n > 0 {
			c.users.Store(2)
			s.toHash <- c // never waits: there are as many places as chunks
			s.toRead <- c
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				s.err = err
			}
			return
		}
	}
}

func readChunk(r io.Reader, c *chunk) (int, error) {
	if cap(c.data) == 0 {
		c.data = make([]byte, chunkSize)
	}
	c.data = c.data[:chunkSize]
	n := 0
	for n < chunkSize {
		m, err := r.Read(c.data[n:])
		n += m
		if err != nil {
			c.data = c.data[:n]
			return n, err
		}
	}
	return n, nil
}

func (s *stream) sum() {
	for c := range s.toHash {
		s.hash.Write(c.data)
		s.release(c)
	}
}

func (s *stream) release(c *chunk) {
	if c.users.Add(-1) == 0 {
		s.free <- c
	}
}

// Read reads the uncompressed tar.
func (s *stream) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		if !s.next() {
			if s.err != nil {
				return 0, s.err
			}
			return 0, io.EOF
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// next takes the next chunk in hand.
func (s *stream) next() bool {
	if s.current != nil {
		s.release(s.current)
		s.current, s.rest = nil, nil
	}
	c, ok := <-s.toRead
	if ok {
		s.current, s.rest = c, c.data
	}
	return ok
}

// finish reads what is left, which counts for the digest, and returns the digest of all.
func (s *stream) finish() ([]byte, error) {
	for s.next() {
	}
	s.done.Wait()
	if s.err != nil {
		return nil, s.err
	}
	return s.hash.Sum(nil), nil
}

// abort ends the goroutines without reading on. It waits for a Read of the source that is under way.
func (s *stream) abort() {
	close(s.stop)
	for s.next() {
	}
	s.done.Wait()
}
