// Package layer makes root filesystems from layers.
//
// # The life of a root filesystem
//
// A layer is unpacked once, by the digest of its uncompressed tar (diff id), into a directory of its own, whatever image
// it belongs to: Unpack reads the compressed stream while it downloads, several layers in parallel. Prepare stacks
// layers and puts a writable layer on top; what it returns is a description of an overlay mount which the container
// mounts itself. Diff and Changes read the writable layer. Remove deletes it; Collect removes layers that nobody needs.
// Directories are made under a temporary name and renamed when complete, so a crash leaves nothing half-made.
//
// # On disk
//
//	l/NAME/d   an unpacked layer; NAME is short, because overlayfs is told many of them in little room
//	l/NAME/m   what is known about it
//	l/NAME/s   present once the layer is safe on disk: without it, it does not survive a crash of the machine
//	c/ID/u w m the upper and work directories of a writable layer, and what it stands on
//	i/NAME     mount points that an image lacks
//	e          an empty layer
//	t          what is being made
//	x          what is being deleted
//
// The store's paths are never given to callers as strings to join, but for those in sys.Overlay, which are mounted.
package layer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// Store is a directory of layers and writable layers. It is safe for concurrent use; one process uses a directory at a
// time.
type Store struct {
	dir       string
	fd        int // of dir, for short relative paths
	userXattr bool
	boot      string
	trash     *trash

	mu      sync.Mutex // guards what follows
	layers  map[digest.Digest]*unpacked
	names   map[string]*unpacked
	roots   map[string]*prepared
	lost    map[string]bool // writable layers whose layers, or description, a crash of the machine has taken
	flights map[digest.Digest]*flight
	bases   map[string]string // name of the mount points by what they lie on; empty: none are needed
}

// Open opens the store in dir, which is made if it is missing, and removes what an interrupted operation left.
func Open(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open layer store: %w", err)
	}
	for _, sub := range []string{"l", "c", "i", "e", "t", "x"} {
		mode := os.FileMode(0o700)
		if sub == "e" {
			mode = 0o755 // may be the root directory of a container
		}
		if err := os.MkdirAll(filepath.Join(dir, sub), mode); err != nil {
			return nil, fmt.Errorf("open layer store: %w", err)
		}
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open layer store %s: %w", dir, err)
	}
	s := &Store{
		dir: dir, fd: fd, userXattr: os.Geteuid() != 0, boot: sys.BootID(),
		layers: make(map[digest.Digest]*unpacked), names: make(map[string]*unpacked),
		roots: make(map[string]*prepared), flights: make(map[digest.Digest]*flight),
		lost: make(map[string]bool), bases: make(map[string]string),
	}
	if err := s.recover(); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open layer store %s: %w", dir, err)
	}
	s.trash = newTrash(fd)
	return s, nil
}

// Close waits until what was removed is deleted. Operations must have ended.
func (s *Store) Close() error {
	s.trash.close()
	if err := unix.Close(s.fd); err != nil {
		return fmt.Errorf("close layer store: %w", err)
	}
	return nil
}

// recover reads what is there and throws away what an interrupted operation left.
func (s *Store) recover() error {
	temps, err := os.ReadDir(filepath.Join(s.dir, "t"))
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range temps {
		errs = append(errs, s.discard("t/"+e.Name()))
	}
	return errors.Join(append(errs, s.recoverLayers(), s.recoverRoots(), s.recoverBases())...)
}

// discard moves something of the store where it will be deleted.
func (s *Store) discard(name string) error {
	err := unix.Renameat(s.fd, name, s.fd, "x/"+randomName())
	if err != nil && err != unix.ENOENT {
		return fmt.Errorf("discard %s: %w", name, err)
	}
	return nil
}

// Sync makes all layers that were unpacked until now survive a crash of the machine. It writes out everything that is
// not yet on the store's filesystem, so call it once at the end of a pull rather than for each layer. Layers that were
// not synced when the machine crashed are gone after Open.
func (s *Store) Sync(ctx context.Context) error {
	pending := s.unsynced()
	if len(pending) == 0 {
		return nil
	}
	f, err := os.Open(s.dir)
	if err != nil {
		return fmt.Errorf("sync layers: %w", err)
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync layers: %w", err)
	}
	return s.markSynced(pending)
}

func (s *Store) unsynced() []*unpacked {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*unpacked
	for _, l := range s.layers {
		if !l.synced {
			list = append(list, l)
		}
	}
	return list
}

// markSynced notes that the data is on disk, and puts the notes there too: the last one's fsync commits them all, as
// they are in one journal.
func (s *Store) markSynced(list []*unpacked) error {
	for i, l := range list {
		fd, err := unix.Openat(s.fd, "l/"+l.name+"/s", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if err == unix.ENOENT {
			continue // collected meanwhile
		}
		if err == nil && i == len(list)-1 {
			err = unix.Fsync(fd)
		}
		if err != nil {
			return fmt.Errorf("sync layers: %w", err)
		}
		unix.Close(fd)
		s.mu.Lock()
		l.synced = true
		s.mu.Unlock()
	}
	return nil
}
