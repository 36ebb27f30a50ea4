package image

import (
	"sync"

	"github.com/opencontainers/go-digest"
)

// memo keeps what was read of blobs, by their digests, and a limited number of it. What it keeps must not be changed.
type memo[V any] struct {
	mu   sync.Mutex
	kept map[digest.Digest]V
}

// get gives what is kept of a blob, or else reads it.
func (m *memo[V]) get(d digest.Digest, read func() (V, error)) (V, error) {
	m.mu.Lock()
	v, ok := m.kept[d]
	m.mu.Unlock()
	if ok {
		return v, nil
	}
	v, err := read()
	if err != nil {
		return v, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kept == nil {
		m.kept = map[digest.Digest]V{}
	}
	if len(m.kept) >= keptBlobs {
		for k := range m.kept { // Any one will do.
			delete(m.kept, k)
			break
		}
	}
	m.kept[d] = v
	return v, nil
}

// each calls fn for everything that is kept.
func (m *memo[V]) each(fn func(V)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range m.kept {
		fn(v)
	}
}
