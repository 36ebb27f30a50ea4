package layer

import (
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// versions are two versions of a layer that lie over the same one: the new one, and one before it that has marks. The one before may
// be what they lie over, itself.
type versions struct {
	root  *sys.Root // the caller's
	under *sys.Root
	like  *sys.Root // nil if the version before is the layer under both
	marks []mark    // of the version before
}

// openVersions opens what a new version is compared with: the version like, if it can be used, else the layer under it.
func (s *Store) openVersions(root *sys.Root, u *unpacked, like digest.Digest) (v *versions, err error) {
	v = &versions{root: root, marks: s.readMarks(u)}
	if v.under, err = sys.OpenRoot(s.dir + "/l/" + u.name + "/d"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	k := s.layers[like]
	s.mu.Unlock()
	if k == nil || k.Under != u.DiffID {
		return v, nil
	}
	list := s.readMarks(k)
	if list == nil {
		return v, nil
	}
	if v.like, err = sys.OpenRoot(s.dir + "/l/" + k.name + "/d"); err != nil {
		v.close()
		return nil, err
	}
	v.marks = list
	return v, nil
}

func (v *versions) close() {
	v.under.Close()
	if v.like != nil {
		v.like.Close()
	}
}

// place is one directory in all that make up the versions; -1 where it is not.
type place struct{ root, like, under int }

// first is the name of the first entry, in a tar's order, by which the versions differ; of two that do not, one that comes after
// all others.
func (v *versions) first() (string, error) {
	top := place{v.root.Fd(), -1, v.under.Fd()}
	if v.like != nil {
		top.like = v.like.Fd()
	}
	name, err := top.first("")
	if name == "" {
		name = "\xff"
	}
	return name, err
}

func (p place) first(name string) (string, error) {
	var names []string
	for _, fd := range []int{p.root, p.like} {
		if fd < 0 {
			continue
		}
		some, err := sys.Names(fd)
		if err != nil {
			return "", &os.PathError{Op: "read", Path: name, Err: err}
		}
		names = append(names, some...)
	}
	slices.Sort(names)
	for _, base := range slices.Compact(names) {
		at := strings.TrimPrefix(name+"/"+base, "/")
		isDir, same, err := p.same(base)
		if err != nil {
			return "", &os.PathError{Op: "compare", Path: at, Err: err}
		}
		if !same {
			return at, nil
		}
		if !isDir {
			continue
		}
		inner, err := p.enter(base)
		if err != nil {
			return "", &os.PathError{Op: "open", Path: at, Err: err}
		}
		first, err := inner.first(at)
		inner.close()
		if err != nil || first != "" {
			return first, err
		}
	}
	return "", nil
}

// seen is what a name is in one of the versions.
type seen struct {
	fd int // of the directory that has it; -1: nothing has
	st unix.Stat_t
}

// see looks for a name in a version: in its own directory, then in the one under it.
func see(base string, fds ...int) (seen, error) {
	for _, fd := range fds {
		if fd < 0 {
			continue
		}
		s := seen{fd: fd}
		err := unix.Fstatat(fd, base, &s.st, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, unix.ENOENT) {
			return s, err
		}
	}
	return seen{fd: -1}, nil
}

// same says whether a name is the same in both versions, as a tar tells it; in doubt it is not. What is in directories does not count.
func (p place) same(base string) (isDir, same bool, err error) {
	a, err := see(base, p.root, p.under)
	if err != nil {
		return false, false, err
	}
	b, err := see(base, p.like, p.under)
	if err != nil || a.fd < 0 || b.fd < 0 || differs(&a.st, &b.st) || a.st.Mtim != b.st.Mtim {
		return false, false, err
	}
	x, y := sys.FDPath(a.fd)+"/"+base, sys.FDPath(b.fd)+"/"+base
	if !sameXattrs(x, y) {
		return false, false, nil
	}
	switch a.st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return true, true, nil
	case unix.S_IFLNK:
		m, err := sys.ReadlinkAt(a.fd, base)
		if err != nil {
			return false, false, err
		}
		n, err := sys.ReadlinkAt(b.fd, base)
		return false, m == n, err
	case unix.S_IFREG:
		if a.st.Nlink > 1 || b.st.Nlink > 1 {
			return false, false, nil
		}
		same, err := sameContent(a.fd, base, y)
		return false, same, err
	}
	return false, false, nil
}

// enter opens the directory of a name wherever it is one.
func (p place) enter(base string) (place, error) {
	inner := place{-1, -1, -1}
	for _, d := range []struct {
		from int
		to   *int
	}{{p.root, &inner.root}, {p.like, &inner.like}, {p.under, &inner.under}} {
		if d.from < 0 {
			continue
		}
		fd, err := openDir(d.from, base)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue
		}
		if err != nil {
			inner.close()
			return inner, err
		}
		*d.to = fd
	}
	return inner, nil
}

func (p place) close() {
	for _, fd := range []int{p.root, p.like, p.under} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
