package archive

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// whiteout turns an OCI whiteout in the directory dir into overlayfs's: a character device 0:0 hides what a lower layer
// has by that name, an attribute makes a directory opaque. A whiteout hides lower layers only, never what its own layer
// brings, in whatever order the two come.
func (u *unpacker) whiteout(dir, base string) error {
	switch {
	case base == whiteoutOpaque && dir == "":
		u.stats.Opaque = true
		return nil
	case base == whiteoutOpaque:
		parent, err := u.parent(dir)
		if err != nil {
			return err
		}
		u.stats.Entries++
		return u.setOpaque(func(name string, value []byte) error {
			return unix.Setxattr(sys.FDPath(parent.fd), name, value, 0)
		})
	case strings.HasPrefix(base, whiteoutMeta):
		return nil // bookkeeping of AUFS, nothing that belongs to the image
	}
	hidden := strings.TrimPrefix(base, whiteoutPrefix)
	if hidden == "" || hidden == "." || hidden == ".." {
		return invalid(errors.New("whiteout of nothing"))
	}
	parent, err := u.parent(dir)
	if err != nil {
		return err
	}
	u.stats.Entries++
	return u.hide(place{parent, strings.TrimPrefix(dir+"/"+hidden, "/"), hidden})
}

// uncover replaces the whiteouts that this layer has on the way to dir by directories.
func (u *unpacker) uncover(dir string) error {
	for i := range len(dir) + 1 {
		if i < len(dir) && dir[i] != '/' {
			continue
		}
		up, base := splitName(dir[:i])
		parent, err := u.parent(up)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		err = unix.Fstatat(parent.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return err
		}
		if sys.IsWhiteout(&st) {
			_, err := u.mkdir(place{parent, dir[:i], base}, 0o755)
			return err
		}
	}
	return nil
}

func (u *unpacker) hide(p place) error {
	err := unix.Mknodat(p.parent.fd, p.base, unix.S_IFCHR, 0)
	if err != unix.EEXIST {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(p.parent.fd, p.base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil // what this layer has there hides what is below by itself
	}
	return u.setOpaque(onPlace(p))
}

func (u *unpacker) setOpaque(set func(string, []byte) error) error {
	if err := set(u.overlay+"opaque", []byte("y")); err != nil {
		return fmt.Errorf("make directory opaque: %w", err)
	}
	return nil
}
