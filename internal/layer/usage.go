package layer

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Usage is the number of bytes that the writable layer occupies: blocks on disk, a file with several names once.
func (s *Store) Usage(id string) (int64, error) {
	p, err := s.root(id)
	if err != nil || p.ReadOnly {
		return 0, err
	}
	fd, err := unix.Openat(s.fd, "c/"+id+"/u", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("usage of root filesystem %s: %w", id, err)
	}
	defer unix.Close(fd)
	n, err := usage(fd)
	if err != nil {
		return 0, fmt.Errorf("usage of root filesystem %s: %w", id, err)
	}
	return n, nil
}

// maxDepth is how deep a tree is measured: each level holds a descriptor, and a container may make what it likes.
const maxDepth = 1000

// usage measures a tree, its top included. It may be written to meanwhile.
func usage(fd int) (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	m := meter{seen: make(map[uint64]struct{}), total: st.Blocks * 512}
	err := m.dir(fd, ".", 0)
	return m.total, err
}

type meter struct {
	seen  map[uint64]struct{} // inodes with several names
	total int64
}

func (m *meter) dir(dirfd int, name string, depth int) error {
	fd, err := openDir(dirfd, name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	for {
		names, err := f.Readdirnames(1024)
		for _, n := range names {
			if err := m.entry(fd, n, depth); err != nil {
				return err
			}
		}
		if len(names) == 0 || err != nil {
			return endOf(err)
		}
	}
}

func (m *meter) entry(dirfd int, name string, depth int) error {
	var st unix.Stat_t
	err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		m.total += st.Blocks * 512
		if depth >= maxDepth {
			return nil
		}
		return m.dir(dirfd, name, depth+1)
	}
	if st.Nlink > 1 {
		if _, ok := m.seen[st.Ino]; ok {
			return nil
		}
		m.seen[st.Ino] = struct{}{}
	}
	m.total += st.Blocks * 512
	return nil
}
