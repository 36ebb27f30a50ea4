package runtime

import (
	"sync"

	"golang.org/x/sys/unix"
)

// spareMemory keeps a few mappings for the next programs: to map, to touch and to unmap memory costs more than to clear
// what was used of it.
type spareMemory struct {
	mu    sync.Mutex // guards spare
	spare [][]byte
}

const (
	spareSize = 64 << 10 // of each; larger programs get memory of their own
	maxSpare  = 8
)

var spares spareMemory

// get returns cleared memory of at least n bytes.
func (s *spareMemory) get(n int) ([]byte, error) {
	if n > spareSize {
		return mapShared(-1, n)
	}
	s.mu.Lock()
	if len(s.spare) > 0 {
		m := s.spare[len(s.spare)-1]
		s.spare = s.spare[:len(s.spare)-1]
		s.mu.Unlock()
		return m, nil
	}
	s.mu.Unlock()
	return mapShared(-1, spareSize)
}

// put takes memory back that no process uses any more; used is how much of it was written.
func (s *spareMemory) put(m []byte, used int) {
	if len(m) == spareSize {
		clear(m[:used])
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.spare) < maxSpare {
			s.spare = append(s.spare, m)
			return
		}
	}
	_ = unix.Munmap(m)
}

// mapShared maps memory outside of the Go heap, of a file or of none.
func mapShared(fd, n int) ([]byte, error) {
	flags := unix.MAP_SHARED
	if fd < 0 {
		flags |= unix.MAP_ANONYMOUS
	}
	return unix.Mmap(fd, 0, n, unix.PROT_READ|unix.PROT_WRITE, flags)
}
