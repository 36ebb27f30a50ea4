package runstep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
	"github.com/kistdev/kist/internal/treesum"
)

// localMount mounts a directory of the client where it lies. What the filter leaves out is covered by whiteouts, and what
// the step writes goes into a layer that is thrown away: both by an overlay on top of the directory.
func (s *step) localMount(ctx context.Context, m *Mount, l *Local) error {
	root, err := sys.OpenRoot(l.Dir)
	if err != nil {
		return fmt.Errorf("mount %s of the build context: %w", m.Selector, err)
	}
	s.pushMount(func() error { return closeOnce(root) })
	root = s.asRoots(root)
	cover, err := s.cover(ctx, root, l)
	if err != nil {
		return fmt.Errorf("mount %s of the build context: %w", m.Selector, err)
	}
	if cover == "" && m.Readonly {
		return s.selectMount(m, root, "nosuid", "nodev")
	}
	// By its descriptor, for fsconfig takes no long paths.
	o := sys.Overlay{Lower: []string{sys.FDPath(root.Fd())}, Volatile: true, UserXattr: os.Geteuid() != 0}
	if cover != "" {
		o.Lower = []string{cover, o.Lower[0]}
	}
	if !m.Readonly {
		if o.Upper, o.Work, err = s.scratch(root); err != nil {
			return err
		}
	}
	f, err := o.Mount(func() (string, func(), error) { return s.momentaryPlace() })
	if err != nil {
		return fmt.Errorf("mount the build context: %w", err)
	}
	view := sys.NewRoot(f)
	s.pushMount(func() error { return closeOnce(view) })
	if view, err = s.place(view); err != nil {
		return err
	}
	return s.selectMount(m, view)
}

// asRoots shows what belongs to the directory's owner as root's, as a context that is sent would be: programs that mind
// whose files they work on, such as git, do not trust another user's. Where the kernel cannot, it stays as it is.
func (s *step) asRoots(root *sys.Root) *sys.Root {
	st, err := root.Stat(".")
	if err != nil || st.Uid == 0 && st.Gid == 0 || s.r.placed {
		return root
	}
	mapped, err := sys.ShownAsRoots(root, int(st.Uid), int(st.Gid))
	if err != nil {
		slog.Debug("the owner of a build context cannot be mapped", "error", err)
		return root
	}
	s.pushMount(func() error { return closeOnce(mapped) })
	return mapped
}

// momentaryPlace is a directory to mount on for a moment.
func (s *step) momentaryPlace() (string, func(), error) {
	at := filepath.Join(s.dir, s.name())
	if err := os.Mkdir(at, 0o700); err != nil {
		return "", nil, err
	}
	return at, func() { _ = os.Remove(at) }, nil // what stays goes with the step
}

// scratch makes the directories of a writable layer that is thrown away. Its root looks as that of the tree below it.
func (s *step) scratch(root *sys.Root) (upper, work string, err error) {
	st, err := root.Stat(".")
	if err != nil {
		return "", "", err
	}
	dir := filepath.Join(s.r.scratchDir(), s.id+"-"+s.name())
	upper, work = filepath.Join(dir, "u"), filepath.Join(dir, "w")
	s.push(func(context.Context) error { return sys.RemoveTree(dir) })
	for _, d := range []string{dir, upper, work} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return "", "", err
		}
	}
	return upper, work, errors.Join(unix.Chown(upper, int(st.Uid), int(st.Gid)), unix.Chmod(upper, st.Mode&0o7777))
}

// cover makes a directory of whiteouts for what the filter leaves out; none is needed if that is nothing.
func (s *step) cover(ctx context.Context, root *sys.Root, l *Local) (dir string, err error) {
	f := l.Filter
	if len(f.Include)+len(f.Exclude)+len(f.FollowPaths) == 0 {
		return "", nil
	}
	tree, err := s.r.cfg.Trees.Scan(ctx, root, "", f)
	if err != nil {
		return "", err
	}
	all, err := tree.Select(ctx, treesum.Selection{Path: "/"})
	if err != nil {
		return "", err
	}
	c := &coverer{at: filepath.Join(s.dir, s.name()), all: all}
	for _, m := range all.Matches { // the root, that is
		made, err := c.hide(ctx, m.Node, "")
		if err != nil || !made {
			return "", err
		}
	}
	return c.at, nil
}

// coverer makes whiteouts.
type coverer struct {
	at  string
	all *treesum.Selected
}

// hide covers what of a directory was not selected, and says whether there was anything.
func (c *coverer) hide(ctx context.Context, n *treesum.Node, name string) (made bool, err error) {
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	there, err := c.names(n)
	if err != nil {
		return false, err
	}
	kids := c.all.Kids(n)
	seen := make(map[string]bool, len(kids))
	for _, k := range kids {
		seen[k.Name] = true
	}
	dir := filepath.Join(c.at, name)
	for _, entry := range there {
		if seen[entry] {
			continue
		}
		if !made {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return false, err
			}
			made = true
		}
		if err := unix.Mknod(filepath.Join(dir, entry), unix.S_IFCHR, 0); err != nil {
			return false, &os.PathError{Op: "mknod", Path: entry, Err: err}
		}
	}
	for _, k := range kids {
		if !k.IsDir() {
			continue
		}
		below, err := c.hide(ctx, k, path.Join(name, k.Name))
		if err != nil {
			return false, err
		}
		made = made || below
	}
	if made {
		err = disguise(dir, n)
	}
	return made, err
}

// names lists a directory as it is.
func (c *coverer) names(n *treesum.Node) ([]string, error) {
	fd, err := c.all.Open(n)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), n.Path())
	defer f.Close()
	return f.Readdirnames(-1)
}

// disguise makes a directory look as the client's, in whose place it is seen.
func disguise(dir string, n *treesum.Node) error {
	at := unix.NsecToTimespec(n.Mtime)
	return errors.Join(unix.Chown(dir, int(n.UID), int(n.GID)), unix.Chmod(dir, n.Mode&0o7777),
		unix.UtimesNano(dir, []unix.Timespec{at, at}))
}
