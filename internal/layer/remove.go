package layer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// Remove deletes the writable layer; one that is not there is no error. It returns at once: the directories are renamed
// away and deleted behind.
func (s *Store) Remove(ctx context.Context, id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.throwAway("c/" + id); err != nil {
		return fmt.Errorf("remove root filesystem %s: %w", id, err)
	}
	delete(s.roots, id)
	delete(s.lost, id)
	return nil
}

// Collect removes the unpacked layers for which keep is false, and returns the bytes won. Layers that a prepared root
// filesystem stands on, and those that are held, stay in any case. A layer that was unpacked for an image that has no name yet is the caller's to
// keep. Keep must not call the store.
func (s *Store) Collect(ctx context.Context, keep func(digest.Digest) bool) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known.forget()
	needed := make(map[string]bool)
	for _, p := range s.roots {
		for _, name := range p.Lower {
			needed[name] = true
		}
	}
	kept := make(map[digest.Digest]bool, len(s.layers))
	for id, l := range s.layers {
		if needed[l.name] || s.holds[id] > 0 || keep(id) {
			kept[id], kept[l.Under] = true, true
		}
	}
	var won int64
	var errs []error
	for id, l := range s.layers {
		if kept[id] {
			continue
		}
		if err := s.throwAway("l/" + l.name); err != nil {
			errs = append(errs, fmt.Errorf("collect layer %s: %w", id, err))
			continue
		}
		delete(s.layers, id)
		delete(s.names, l.name)
		won += l.Size
	}
	return won, errors.Join(append(errs, s.collectBases())...)
}

// throwAway moves something of the store where it is deleted, and has it deleted behind.
func (s *Store) throwAway(name string) error {
	if err := s.discard(name); err != nil {
		return err
	}
	s.trash.wake()
	return nil
}

// trashHands is how many files are deleted at a time: each may wait for the disk.
const trashHands = 4

// trash deletes what is in x. The directory itself is the queue: it holds however much is thrown away, and what a crash
// leaves in it is deleted when the store is opened next.
type trash struct {
	fd   int // of the store
	work chan struct{}
	done chan struct{}

	ctx  context.Context //nolint:containedctx // It is the lifetime of the goroutine, not of a request.
	stop context.CancelFunc
}

func newTrash(fd int) *trash {
	t := &trash{fd: fd, work: make(chan struct{}, 1), done: make(chan struct{})}
	t.ctx, t.stop = context.WithCancel(context.Background())
	t.wake()
	go t.run()
	return t
}

// wake tells that there is something to delete.
func (t *trash) wake() {
	select {
	case t.work <- struct{}{}:
	default: // it looks again anyway
	}
}

func (t *trash) run() {
	defer close(t.done)
	for range t.work {
		if err := t.empty(); err != nil && t.ctx.Err() == nil {
			slog.Warn("deleting removed layers", "error", err)
		}
	}
}

func (t *trash) empty() error {
	names, err := readNames(t.fd, "x")
	if err != nil {
		return err
	}
	fd, err := unix.Openat(t.fd, "x", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var errs []error
	for _, name := range names {
		errs = append(errs, sys.RemoveLargeAt(t.ctx, fd, name, trashHands))
	}
	return errors.Join(errs...)
}

// close ends the deletion, which may take long; the next Open goes on with it.
func (t *trash) close() {
	t.stop()
	close(t.work)
	<-t.done
}
