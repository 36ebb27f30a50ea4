package runstep

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// removeStubs removes from a writable layer what was only made there to mount something on: empty files and directories on
// the way to a mount's destination that are not in the layers below.
func (s *step) removeStubs(m *Mount, id string) error {
	o, err := s.r.cfg.Layers.Rootfs(id)
	if err != nil || o.Upper == "" {
		return err
	}
	upper, err := sys.OpenRoot(o.Upper)
	if err != nil {
		return fmt.Errorf("writable layer of build step: %w", err)
	}
	defer upper.Close()
	if empty, err := isEmpty(upper); err != nil || empty {
		return err
	}
	for _, name := range s.stubs(s.dest(m)) {
		if err := s.removeStub(upper, id, name); err != nil {
			return fmt.Errorf("remove mount point /%s: %w", name, err)
		}
	}
	return nil
}

func isEmpty(root *sys.Root) (bool, error) {
	f, err := root.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	names, _ := f.Readdirnames(1) // an error is told where it matters
	return len(names) == 0, nil
}

// stubs are the places below dir on which something was mounted, seen from there; those that lie deepest first.
func (s *step) stubs(dir string) []string {
	var list []string
	for i := len(s.mounts) - 1; i >= 0; i-- {
		if name, ok := below(s.mounts[i].Destination, dir); ok && name != "" {
			list = append(list, name)
		}
	}
	if dir == "/" {
		list = append(list, "etc/resolv.conf", "etc/hosts") // They may be links to nothing.
	}
	return list
}

// below is the path of name seen from dir.
func below(name, dir string) (string, bool) {
	name, dir = path.Clean("/"+name), path.Clean("/"+dir)
	if dir == "/" {
		return strings.TrimPrefix(name, "/"), true
	}
	return strings.CutPrefix(name, dir+"/")
}

// removeStub removes name and then its parents, as long as they are empty and were not there before.
func (s *step) removeStub(upper *sys.Root, id, name string) error {
	name, exists, err := s.r.cfg.Layers.Beneath(id, name)
	for err == nil && !exists && name != "" {
		var gone bool
		if gone, err = removeEmpty(upper, name); err != nil || !gone {
			return err
		}
		if name = path.Dir(name); name == "." {
			return nil
		}
		_, exists, err = s.r.cfg.Layers.Beneath(id, name)
	}
	return err
}

// removeEmpty removes an empty file or directory and says whether nothing is there now.
func removeEmpty(upper *sys.Root, name string) (gone bool, err error) {
	st, err := upper.Lstat(name)
	if errors.Is(err, unix.ENOENT) {
		return true, nil
	}
	if err != nil {
		if errors.Is(err, unix.ENOTDIR) {
			return false, nil // The step has put something else there.
		}
		return false, err
	}
	flags := 0
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		flags = unix.AT_REMOVEDIR
	case unix.S_IFREG:
		if st.Size > 0 {
			return false, nil
		}
	default:
		return false, nil
	}
	dir, base, err := upper.Parent(name)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	err = unix.Unlinkat(int(dir.Fd()), base, flags)
	if errors.Is(err, unix.ENOTEMPTY) {
		return false, nil
	}
	return err == nil, err
}
