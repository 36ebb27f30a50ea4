package layer

import (
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// known are small files that were read from layers, which do not change: every start of a container reads the image's accounts,
// in forty system calls, and nearly all containers leave them alone.
type known struct {
	mu    sync.Mutex // guards files
	files map[string][]byte
}

// Limits of known, so that images that mean harm fill nothing.
const (
	knownMost = 32
	knownSize = 64 << 10
)

func (k *known) get(key string) ([]byte, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	data, ok := k.files[key]
	return data, ok
}

func (k *known) put(key string, data []byte) {
	if len(data) > knownSize {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.files == nil || len(k.files) >= knownMost {
		k.files = make(map[string][]byte)
	}
	k.files[key] = data
}

// forget drops everything: layers are being removed, and others may get their names.
func (k *known) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.files = nil
}

// knownAs is what a file of a root filesystem is known as; empty if its writable layer may have a say in it.
func (s *Store) knownAs(id string, p *prepared, name string) string {
	if !p.ReadOnly {
		first, _, _ := strings.Cut(strings.TrimLeft(name, "/"), "/")
		var st unix.Stat_t
		if err := unix.Fstatat(s.fd, "c/"+id+"/u/"+first, &st, unix.AT_SYMLINK_NOFOLLOW); err != unix.ENOENT {
			return ""
		}
	}
	return name + "\x00" + p.Base + "\x00" + strings.Join(p.Lower, "\x00")
}
