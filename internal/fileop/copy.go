package fileop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"
	mode "github.com/tonistiigi/dchapes-mode"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
	"github.com/kistdev/kist/internal/treesum"
)

// copy copies what a selection of its source takes.
func (r *run) copy(ctx context.Context, d *dest, a *pb.FileAction, who *owner) (err error) {
	c := a.GetCopy()
	src, err := r.source(ctx, int(a.SecondaryInput))
	if err != nil {
		return err
	}
	v, err := r.o.look(ctx, src)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	sel, err := v.tree.Select(ctx, copySelection(c, v.local))
	if err != nil {
		return err
	}
	if len(sel.Matches) == 0 && !c.AllowEmptyWildcard {
		return fmt.Errorf("%s: nothing matches: %w", c.Src, errdefs.ErrNotFound)
	}
	cp, err := newCopier(d, sel, c, who, v.local)
	if err != nil {
		return err
	}
	for _, m := range sel.Matches {
		if err := cp.match(ctx, m); err != nil {
			return fmt.Errorf("copy %s to %s: %w", c.Src, c.Dest, err)
		}
	}
	r.unstable, r.copied = r.unstable || cp.unstable.Load(), sel
	return nil
}

func newCopier(d *dest, sel *treesum.Selected, c *pb.FileActionCopy, who *owner, local bool) (*copier, error) {
	cp := &copier{d: d, sel: sel, op: c, who: who, local: local, time: timespec(c.Timestamp)}
	switch {
	case c.ModeStr != "":
		set, err := mode.ParseWithUmask(c.ModeStr, 0)
		if err != nil {
			return nil, fmt.Errorf("mode %q: %w: %w", c.ModeStr, err, errdefs.ErrInvalidArgument)
		}
		cp.mode = func(m uint32) uint32 { return permissions(set.Apply(sys.FileMode(m))) }
	case c.Mode != -1:
		cp.mode = func(uint32) uint32 { return uint32(c.Mode) & 0o7777 }
		cp.parents = uint32(c.Mode) & 0o777
	default:
		cp.mode = func(m uint32) uint32 { return m & 0o7777 }
	}
	if c.ModeStr != "" || c.Mode == -1 {
		cp.parents = 0o755
	}
	return cp, nil
}

// permissions are the bits that chmod(2) sets.
func permissions(f os.FileMode) uint32 {
	m := uint32(f.Perm())
	if f&os.ModeSetuid != 0 {
		m |= unix.S_ISUID
	}
	if f&os.ModeSetgid != 0 {
		m |= unix.S_ISGID
	}
	if f&os.ModeSticky != 0 {
		m |= unix.S_ISVTX
	}
	return m
}

// match copies one match. Where it goes, and what becomes of directories, is as BuildKit has it: a destination that ends
// in a slash is a directory, a file goes into a directory that is there, a directory goes into one under its own name
// unless only its contents are wanted; and directories on the way are made.
func (c *copier) match(ctx context.Context, m treesum.Match) error {
	if c.op.AttemptUnpackDockerCompatibility && m.Node.IsRegular() {
		done, err := c.unpack(ctx, m)
		if done || err != nil {
			return err
		}
	}
	dst := path.Join("/", c.op.Dest)
	if !c.op.CreateDestPath {
		if err := c.mustHave(dst); err != nil {
			return err
		}
	}
	made := []*dir{}
	defer func() { c.d.settle(made, c.time) }()
	above := dst
	if !strings.HasSuffix(c.op.Dest, "/") && !strings.HasSuffix(c.op.Dest, "/.") {
		above = path.Dir(dst)
	}
	if err := c.makeDirs(above, nil, &made); err != nil {
		return err
	}
	parts, err := c.d.resolve(dst)
	if err != nil {
		return err
	}
	there, err := c.d.stat(parts)
	if err != nil {
		return err
	}
	isDir, contents := m.Node.IsDir(), c.op.DirCopyContents
	if m.Name != "" && (!contents && isDir && there.exists() || !isDir && there.isDir()) {
		parts = append(parts, m.Name)
	}
	target := parts
	if (!contents || !isDir || there.exists()) && len(parts) > 0 {
		target = parts[:len(parts)-1]
	}
	if err := c.makeDirs("", target, &made); err != nil {
		return err
	}
	return c.run(ctx, m.Node, parts)
}

// mustHave fails unless the directory above a path is there.
func (c *copier) mustHave(dst string) error {
	parts, err := c.d.resolve(dst)
	if err != nil || len(parts) == 0 {
		return err
	}
	p, _, err := c.d.parent(parts)
	if err != nil {
		return err
	}
	p.release()
	return nil
}

// makeDirs makes missing directories, of a path or its resolved components.
func (c *copier) makeDirs(name string, parts []string, made *[]*dir) error {
	if parts == nil {
		var err error
		if parts, err = c.d.resolve(name); err != nil {
			return err
		}
	}
	p, err := c.d.mkdirAll(parts, newDir{mode: c.parents, who: c.who, time: c.time, made: made})
	if err != nil {
		return err
	}
	p.release()
	return nil
}

// stat tells what components lead to.
func (d *dest) stat(parts []string) (entry, error) {
	if len(parts) == 0 {
		return entry{st: d.top.st, upper: true, lower: d.top.lower >= 0}, nil
	}
	p, err := d.open(parts[:len(parts)-1])
	if err != nil {
		if errors.Is(err, unix.ENOTDIR) {
			return entry{}, nil
		}
		return entry{}, err
	}
	if p == nil {
		return entry{}, nil
	}
	defer p.release()
	return p.lookup(parts[len(parts)-1])
}

// run copies a file or tree to where the components lead.
func (c *copier) run(ctx context.Context, n *treesum.Node, parts []string) (err error) {
	c.start(ctx)
	defer func() {
		if werr := c.wait(); err == nil || werr != nil && !errors.Is(werr, context.Canceled) {
			err = werr
		}
	}()
	if len(parts) == 0 {
		if !n.IsDir() {
			return &fs.PathError{Op: "copy", Path: "/", Err: unix.EISDIR}
		}
		top, err := c.d.root()
		if err != nil {
			return err
		}
		return c.into(n, top, false, false)
	}
	p, name, err := c.d.parent(parts)
	if err != nil {
		return err
	}
	defer p.release()
	if n.IsDir() {
		return c.directory(n, -1, p, name, false)
	}
	fd, err := c.sel.OpenParent(n)
	if err != nil {
		return c.lost(err)
	}
	from := newOrigin(fd)
	defer from.release()
	if err := c.entry(n, from, p, name); err != nil {
		return err
	}
	return c.flush(from, p)
}
