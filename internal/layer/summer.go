package layer

import (
	"crypto/sha256"
	"hash"

	"github.com/opencontainers/go-digest"
)

// summer hashes what is written to it in a goroutine of its own, beside the writer's.
type summer struct {
	hash hash.Hash
	n    int64
	full chan []byte
	free chan []byte
	done chan struct{}
}

const summerChunks = 4

func newSummer() *summer {
	s := &summer{
		hash: sha256.New(), full: make(chan []byte, summerChunks), free: make(chan []byte, summerChunks),
		done: make(chan struct{}),
	}
	for range summerChunks {
		s.free <- nil
	}
	go func() {
		defer close(s.done)
		for b := range s.full {
			s.hash.Write(b)
			s.free <- b
		}
	}()
	return s
}

func (s *summer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		b := <-s.free
		if b == nil {
			b = make([]byte, chunkSize)
		}
		m := copy(b[:cap(b)], p)
		s.full <- b[:m] // never waits: there are as many places as chunks
		p = p[m:]
	}
	s.n += int64(n)
	return n, nil
}

// finish ends the goroutine and returns the digest and how much was written.
func (s *summer) finish() (digest.Digest, int64) {
	close(s.full)
	<-s.done
	return digest.NewDigest(digest.SHA256, s.hash), s.n
}
