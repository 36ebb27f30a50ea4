package layer

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

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
	last := -1
	for _, l := range list {
		fd, err := s.mark(l)
		if err != nil {
			return fmt.Errorf("sync layers: %w", err)
		}
		if fd < 0 {
			continue
		}
		if last >= 0 {
			unix.Close(last)
		}
		last = fd
	}
	if last < 0 {
		return nil
	}
	defer unix.Close(last)
	if err := unix.Fsync(last); err != nil {
		return fmt.Errorf("sync layers: %w", err)
	}
	return nil
}

// mark notes that one layer is safe. One that was collected meanwhile may have a successor of the same name, which is not:
// the descriptor is then negative.
func (s *Store) mark(l *unpacked) (fd int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.layers[l.DiffID] != l {
		return -1, nil
	}
	fd, err = unix.Openat(s.fd, "l/"+l.name+"/s", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err == nil {
		l.synced = true
	}
	return fd, err
}

// SyncBehind is Sync in the background, for who can make the layers again.
func (s *Store) SyncBehind() {
	select {
	case s.syncs <- struct{}{}:
	default: // the one that is asked for already will see these layers too
	}
}

func (s *Store) syncBehind() {
	defer close(s.synced)
	for range s.syncs {
		if err := s.Sync(context.Background()); err != nil {
			slog.Warn("writing layers to the disk", "error", err)
		}
	}
}
