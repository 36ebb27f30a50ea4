package layer

import (
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// stack looks into the layers of an overlay as overlayfs does, without mounting it.
type stack struct {
	dirs   []string // the topmost first
	prefix string   // of overlayfs's attributes
}

// merged is the layers that take part in a directory, the topmost first: indices into stack.dirs.
type merged []int

func (t *stack) top() merged {
	m := make(merged, len(t.dirs))
	for i := range m {
		m[i] = i
	}
	return m
}

// found is what a name is in the stack.
type found struct {
	st    unix.Stat_t
	file  string // its path in the topmost layer that has it
	below merged // of a directory: the layers that have it
}

// lookup finds name, whose directory is made of dir's layers; nil if it is not there. Every directory on name's way must
// have been looked up before, so that no symbolic link is on it.
func (t *stack) lookup(dir merged, name string) (*found, error) {
	var f *found
	for _, i := range dir {
		path := t.dirs[i] + "/" + name
		var st unix.Stat_t
		err := unix.Lstat(path, &st)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
		}
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		if sys.IsWhiteout(&st) || f != nil && !isDir {
			return f, nil
		}
		if f == nil {
			f = &found{st: st, file: path}
		}
		if !isDir {
			return f, nil
		}
		f.below = append(f.below, i)
		opaque, err := sys.IsOpaque(path, t.prefix)
		if err != nil {
			return nil, &fs.PathError{Op: "getxattr", Path: path, Err: err}
		}
		if opaque {
			return f, nil
		}
	}
	return f, nil
}

// walk looks up every component of name; the error is fs.ErrNotExist, or errIndirect if a symbolic link is on the way.
func (t *stack) walk(name string) (*found, error) {
	f := &found{below: t.top()}
	walked := ""
	parts := strings.FieldsFunc(name, func(r rune) bool { return r == '/' })
	for i, part := range parts {
		if part == "." {
			continue
		}
		if part == ".." {
			return nil, errIndirect
		}
		walked = strings.TrimPrefix(walked+"/"+part, "/")
		var err error
		if f, err = t.lookup(f.below, walked); err != nil {
			return nil, err
		}
		switch {
		case f == nil:
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		case f.st.Mode&unix.S_IFMT == unix.S_IFLNK:
			return nil, errIndirect
		case i < len(parts)-1 && f.below == nil:
			return nil, &fs.PathError{Op: "open", Path: name, Err: unix.ENOTDIR}
		}
	}
	return f, nil
}

// errIndirect says that only the kernel can tell where a name leads.
var errIndirect = errors.New("a symbolic link is on the way")

// children are the names in a directory, sorted.
func (t *stack) children(dir merged, name string) ([]string, error) {
	all := make(map[string]bool) // false: hidden by a whiteout
	for _, i := range dir {
		path := t.dirs[i] + "/" + name
		names, err := readNames(unix.AT_FDCWD, path)
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			if _, ok := all[n]; ok {
				continue
			}
			var st unix.Stat_t
			if err := unix.Lstat(path+"/"+n, &st); err != nil {
				return nil, &fs.PathError{Op: "stat", Path: path + "/" + n, Err: err}
			}
			all[n] = !sys.IsWhiteout(&st)
		}
	}
	maps.DeleteFunc(all, func(_ string, visible bool) bool { return !visible })
	return slices.Sorted(maps.Keys(all)), nil
}

// lower is the stack that a root filesystem stands on; with upper, its writable layer is on top.
func (s *Store) stack(id string, p *prepared, upper bool) *stack {
	o := s.overlay(id, p)
	t := &stack{dirs: o.Lower, prefix: xattrPrefix(o.UserXattr)}
	if upper && o.Upper != "" {
		t.dirs = append([]string{o.Upper}, o.Lower...)
	}
	return t
}

// image is the layers that a root filesystem stands on, without the mount points that were made for it.
func (s *Store) image(p *prepared) *stack {
	t := &stack{prefix: xattrPrefix(s.userXattr)}
	for _, name := range p.Lower {
		t.dirs = append(t.dirs, s.dir+"/l/"+name+"/d")
	}
	return t
}

func xattrPrefix(user bool) string {
	if user {
		return "user.overlay."
	}
	return "trusted.overlay."
}
