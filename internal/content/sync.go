package content

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// pushEvery is how much of a blob is written before the disk is given it to do, so that Sync finds little left.
const pushEvery = 8 << 20

// push has the disk begin with what was written since the last push. It is a hint: Sync is what counts.
func (w *Writer) push(end int64) {
	if end-w.pushed < pushEvery {
		return
	}
	_ = unix.SyncFileRange(int(w.file.Fd()), w.pushed, end-w.pushed, unix.SYNC_FILE_RANGE_WRITE)
	w.pushed = end
}

// Sync makes all blobs that were committed until now survive a crash of the machine. Call it once, before naming what an
// operation made. Only blobs are written out, not the rest of the filesystem: others may have gigabytes waiting there.
func (s *Store) Sync() error {
	s.syncMu.Lock()
	defer s.syncMu.Unlock()
	list := s.takeUnsafe()
	if len(list) == 0 {
		return nil
	}
	if err := s.syncBlobs(list); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		for d := range list {
			s.unsafe[d] = struct{}{}
		}
		return s.explain(fmt.Errorf("sync content store: %w", err))
	}
	return nil
}

func (s *Store) takeUnsafe() map[digest.Digest]struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.unsafe
	s.unsafe = map[digest.Digest]struct{}{}
	return list
}

func (s *Store) syncBlobs(list map[digest.Digest]struct{}) error {
	dirs := map[string]struct{}{filepath.Join(s.dir, ingestDir): {}}
	for d := range list {
		name, err := s.blobPath(d)
		if err != nil {
			return err
		}
		dirs[filepath.Dir(name)] = struct{}{}
		dirs[filepath.Dir(filepath.Dir(name))] = struct{}{}
		if err := syncPath(name); err != nil && !errors.Is(err, fs.ErrNotExist) { // Deleted meanwhile: nobody needs it.
			return err
		}
	}
	for dir := range dirs {
		if err := syncPath(dir); err != nil {
			return err
		}
	}
	return nil
}

func syncPath(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
