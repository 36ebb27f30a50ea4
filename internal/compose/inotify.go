package compose

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// notices tells which files below some directories change.
type notices struct {
	f *os.File
	// dirs are the directories by the kernel's number of their watch.
	dirs map[int32]string
	skip func(path string) bool
}

// interesting are the changes that are told.
const interesting = unix.IN_CLOSE_WRITE | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_ATTRIB |
	unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW | unix.IN_EXCL_UNLINK

// quiet is how long nothing must change until a group of changes is told, and most how long that may take.
const (
	quiet = 80 * time.Millisecond
	most  = time.Second
)

// newNotices watches directories with all below them, but what skip is true for.
func newNotices(dirs []string, skip func(string) bool) (*notices, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch files: %w", err)
	}
	n := &notices{f: os.NewFile(uintptr(fd), "inotify"), dirs: map[int32]string{}, skip: skip}
	for _, d := range dirs {
		if _, err := n.add(d); err != nil {
			n.Close()
			return nil, err
		}
	}
	return n, nil
}

// Close ends it.
func (n *notices) Close() error { return n.f.Close() }

// add watches a directory and those below it, and returns the files in them.
func (n *notices) add(dir string) (files []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // It has gone meanwhile.
		case err != nil:
			return err
		case path != dir && n.skip(path):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case !d.IsDir():
			files = append(files, path)
			return nil
		}
		wd, err := unix.InotifyAddWatch(int(n.f.Fd()), path, interesting)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			return nil
		}
		if errors.Is(err, unix.ENOSPC) {
			return fmt.Errorf("watch %s: too many directories are watched on this machine (sysctl fs.inotify.max_user_watches): %w", path, err)
		}
		if err != nil {
			return fmt.Errorf("watch %s: %w", path, err)
		}
		n.dirs[int32(wd)] = path
		return nil
	})
	return files, err
}

// next waits for a group of changes. all is set when the kernel lost some: everything may have changed.
func (n *notices) next() (paths []string, all bool, err error) {
	buf := make([]byte, 64<<10)
	var first time.Time
	for {
		wait := time.Time{}
		if len(paths) > 0 || all {
			wait = time.Now().Add(quiet)
			if limit := first.Add(most); wait.After(limit) {
				wait = limit
			}
		}
		if err := n.f.SetReadDeadline(wait); err != nil {
			return nil, false, err
		}
		size, err := n.f.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return paths, all, nil
		}
		if err != nil {
			return nil, false, fmt.Errorf("watch files: %w", err)
		}
		if first.IsZero() {
			first = time.Now()
		}
		if all, err = n.take(buf[:size], &paths, all); err != nil {
			return nil, false, err
		}
	}
}

// take reads the kernel's records.
func (n *notices) take(b []byte, paths *[]string, all bool) (bool, error) {
	for len(b) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(b))
		mask := binary.NativeEndian.Uint32(b[4:])
		size := int(binary.NativeEndian.Uint32(b[12:]))
		end := unix.SizeofInotifyEvent + size
		if end > len(b) {
			break
		}
		name := string(bytes.TrimRight(b[unix.SizeofInotifyEvent:end], "\x00"))
		b = b[end:]
		dir, known := n.dirs[wd]
		switch {
		case mask&unix.IN_Q_OVERFLOW != 0:
			all = true
			continue
		case mask&unix.IN_IGNORED != 0:
			delete(n.dirs, wd)
			continue
		case !known || name == "":
			continue
		}
		path := filepath.Join(dir, name)
		if n.skip(path) {
			continue
		}
		found := []string{path}
		if mask&unix.IN_ISDIR != 0 && mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0 {
			// What came with it, or before it was watched, is told, too.
			files, err := n.add(path)
			if err != nil {
				return all, err
			}
			found = append(found, files...)
		}
		if mask&unix.IN_ISDIR == 0 && mask&unix.IN_CREATE != 0 && !isLink(path) {
			continue // It is told when it is written.
		}
		for _, p := range found {
			if !slices.Contains(*paths, p) {
				*paths = append(*paths, p)
			}
		}
	}
	return all, nil
}

// isLink tells what is whole as soon as it is there: symbolic and hard links.
func isLink(path string) bool {
	st, err := os.Lstat(path)
	if err != nil {
		return false
	}
	if st.Mode()&fs.ModeSymlink != 0 {
		return true
	}
	var s unix.Stat_t
	return unix.Lstat(path, &s) == nil && s.Nlink > 1
}
