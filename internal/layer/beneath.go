package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links are followed on the way to a name, as the kernel does.
const maxLinks = 40

// Beneath finds name in what the writable layer id stands on, the container's mount points included. It returns the path
// without links that it leads to, and whether something is there: of a name that is missing, the path is where it would be
// made. Nothing is mounted.
func (s *Store) Beneath(id, name string) (at string, exists bool, err error) {
	p, err := s.root(id)
	if err != nil {
		return "", false, err
	}
	at, exists, err = s.stack(id, p, false).follow(name)
	if err != nil {
		return "", false, fmt.Errorf("look for %s beneath root filesystem %s: %w", name, id, err)
	}
	return at, exists, nil
}

// follow resolves every link on the way to name.
func (t *stack) follow(name string) (at string, exists bool, err error) {
	rest := strings.Split(path.Clean("/"+name), "/")[1:]
	dir, missing := &found{below: t.top()}, false
	links := 0
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		switch {
		case part == "" || part == ".":
			continue
		case part == "..":
			at = strings.TrimSuffix(path.Dir(at), ".")
			if dir, err = t.again(at); err != nil {
				return "", false, err
			}
			missing = dir == nil
			continue
		case missing:
			at = path.Join(at, part)
			continue
		}
		f, err := t.lookup(dir.below, path.Join(at, part))
		switch {
		case err != nil:
			return "", false, err
		case f == nil:
			missing = true
		case f.st.Mode&unix.S_IFMT == unix.S_IFLNK:
			if links++; links > maxLinks {
				return "", false, unix.ELOOP
			}
			target, err := os.Readlink(f.file)
			if err != nil {
				return "", false, err
			}
			rest = append(strings.Split(target, "/"), rest...)
			if path.IsAbs(target) {
				at, dir = "", &found{below: t.top()}
			}
			continue
		default:
			dir = f
		}
		at = path.Join(at, part)
	}
	return at, !missing, nil
}

// again looks a path without links up; nil if it is not there.
func (t *stack) again(at string) (*found, error) {
	f, err := t.walk(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return f, err
}
