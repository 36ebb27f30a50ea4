package layer

import (
	"crypto/sha256"
	"errors"
	"hash"

	"github.com/opencontainers/go-digest"
)

// summer hashes what is written to it in a goroutine of its own, beside the writer's.
type summer struct {
	hash  hash.Hash
	n     int64
	full  chan sumWork
	free  chan []byte
	done  chan struct{}
	marks []mark // valid once done is closed
}

// sumWork is bytes to hash, or, without any, a mark to set.
type sumWork struct {
	data []byte
	mark mark
}

const summerChunks = 4

func newSummer() *summer {
	s := &summer{
		hash: sha256.New(), full: make(chan sumWork, 2*summerChunks), free: make(chan []byte, summerChunks),
		done: make(chan struct{}),
	}
	for range summerChunks {
		s.free <- nil
	}
	return s
}

// resume goes on where a mark was set, before anything is written.
func (s *summer) resume(m mark) error {
	u, ok := s.hash.(interface{ UnmarshalBinary(state []byte) error })
	if !ok {
		return errors.ErrUnsupported
	}
	s.n = m.Offset
	return u.UnmarshalBinary(m.State)
}

// start starts the goroutine.
func (s *summer) start() *summer {
	go func() {
		defer close(s.done)
		for w := range s.full {
			if w.data == nil {
				s.remember(w.mark)
				continue
			}
			s.hash.Write(w.data)
			s.free <- w.data
		}
	}()
	return s
}

func (s *summer) remember(m mark) {
	b, ok := s.hash.(interface{ MarshalBinary() ([]byte, error) })
	if !ok {
		return
	}
	var err error
	if m.State, err = b.MarshalBinary(); err == nil { // Without it, less can be left out next time.
		s.marks = append(s.marks, m)
	}
}

func (s *summer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		b := <-s.free
		if b == nil {
			b = make([]byte, chunkSize)
		}
		m := copy(b[:cap(b)], p)
		s.full <- sumWork{data: b[:m]}
		p = p[m:]
	}
	s.n += int64(n)
	return n, nil
}

// mark remembers the state of the sum between what was written and what comes.
func (s *summer) mark(name string) error {
	s.full <- sumWork{mark: mark{Name: name, Offset: s.n}}
	return nil
}

// finish ends the goroutine and returns the digest and how long all is.
func (s *summer) finish() (digest.Digest, int64) {
	close(s.full)
	<-s.done
	return digest.NewDigest(digest.SHA256, s.hash), s.n
}
