package keyed

import "sync"

// Memo remembers a limited number of values by their keys. What it keeps must not be changed. It is safe for concurrent use.
type Memo[K comparable, V any] struct {
	most int

	mu   sync.Mutex // guards kept
	kept map[K]V
}

// NewMemo makes one that remembers that many values at most.
func NewMemo[K comparable, V any](most int) *Memo[K, V] {
	return &Memo[K, V]{most: most, kept: map[K]V{}}
}

// Get gives what is remembered.
func (m *Memo[K, V]) Get(k K) (v V, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok = m.kept[k]
	return v, ok
}

// Put remembers a value. If there are too many, another one is forgotten.
func (m *Memo[K, V]) Put(k K, v V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.kept[k]; !ok && len(m.kept) >= m.most {
		for other := range m.kept { // Any one will do.
			delete(m.kept, other)
			break
		}
	}
	m.kept[k] = v
}

// Read gives what is remembered, or else reads and remembers it. What cannot be read is not remembered.
func (m *Memo[K, V]) Read(k K, read func() (V, error)) (V, error) {
	if v, ok := m.Get(k); ok {
		return v, nil
	}
	v, err := read()
	if err == nil {
		m.Put(k, v)
	}
	return v, err
}

// Each calls fn for everything that is remembered. It must not use the memo.
func (m *Memo[K, V]) Each(fn func(V)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range m.kept {
		fn(v)
	}
}
