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
// A layer that was made here may lie over another one: its directory then has only what the two do not share, and a stack that it is
// part of has both directories.
//
// # On disk
//
//	l/NAME/d   an unpacked layer; NAME is short, because overlayfs is told many of them in little room
//	l/NAME/m   what is known about it
//	l/NAME/n   what somebody has noted about it
//	l/NAME/k   places in its tar from which hashing can go on
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
	known     known
	syncs     chan struct{} // asks for a Sync behind
	synced    chan struct{} // closed when no more of them come

	mu      sync.Mutex // guards what follows
	layers  map[digest.Digest]*unpacked
	names   map[string]*unpacked
	roots   map[string]*prepared
	lost    map[string]bool // writable layers whose layers, or description, a crash of the machine has taken
	flights map[digest.Digest]*flight
	holds   map[digest.Digest]int
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
	sys.Spread(filepath.Join(dir, "t"))
	s := &Store{
		dir: dir, fd: fd, userXattr: os.Geteuid() != 0, boot: sys.BootID(),
		layers: make(map[digest.Digest]*unpacked), names: make(map[string]*unpacked),
		roots: make(map[string]*prepared), flights: make(map[digest.Digest]*flight),
		lost: make(map[string]bool), bases: make(map[string]string), holds: make(map[digest.Digest]int),
	}
	if err := s.recover(); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open layer store %s: %w", dir, err)
	}
	s.trash = newTrash(fd)
	s.syncs, s.synced = make(chan struct{}, 1), make(chan struct{})
	go s.syncBehind()
	return s, nil
}

// Close waits until what SyncBehind was asked for is done. Operations must have ended. What is not deleted yet of what was
// removed is left to the next Open.
func (s *Store) Close() error {
	close(s.syncs)
	<-s.synced
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
