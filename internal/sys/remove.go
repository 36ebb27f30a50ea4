package sys

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// IsWhiteout says whether a file is overlayfs's mark that nothing is here: a character device 0:0.
func IsWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// maxDepth is how deep RemoveAllAt descends with open directories before it moves what is deeper up to where it began:
// a hostile tree can be deeper than there are descriptors.
const maxDepth = 200

// RemoveAllAt removes name in the directory dirfd with all that is below, however deep, and never follows a link. What
// is not there is no error. It does not cross into mounts: those make it fail with unix.EBUSY.
func RemoveAllAt(dirfd int, name string) error {
	r := remover{top: dirfd}
	if err := r.remove(dirfd, name, 0); err != nil {
		return err
	}
	for n := 0; n < r.moved; n++ { // grows while it runs
		if err := r.remove(dirfd, r.movedName(n), 0); err != nil {
			return err
		}
	}
	return nil
}

type remover struct {
	top   int
	moved int
}

func (r *remover) movedName(n int) string { return fmt.Sprintf(".removing-%d-%d", os.Getpid(), n) }

// remove removes name in dirfd, depth levels below where it began.
func (r *remover) remove(dirfd int, name string, depth int) error {
	switch err := unix.Unlinkat(dirfd, name, 0); err {
	case nil, unix.ENOENT:
		return nil
	case unix.EISDIR, unix.EPERM: // Linux says EISDIR, others may say EPERM
	default:
		return fmt.Errorf("remove %s: %w", name, err)
	}
	if depth >= maxDepth {
		return r.moveUp(dirfd, name)
	}
	if err := r.empty(dirfd, name, depth); err != nil {
		return err
	}
	if err := unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

func (r *remover) moveUp(dirfd int, name string) error {
	err := unix.Renameat2(dirfd, name, r.top, r.movedName(r.moved), unix.RENAME_NOREPLACE)
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	r.moved++
	return nil
}

// empty removes everything in the directory name.
func (r *remover) empty(dirfd int, name string, depth int) error {
	fd, err := retry(func() (int, error) {
		return unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(1024)
		for _, n := range names {
			if err := r.remove(fd, n, depth+1); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
}
