package layer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/sys"
)

// Diff writes the writable layer as an uncompressed layer tar with OCI whiteouts.
func (s *Store) Diff(ctx context.Context, id string, w io.Writer) error {
	p, err := s.root(id)
	if err != nil {
		return err
	}
	o := archive.TarOptions{Upper: true, UserXattr: s.userXattr, Hidden: s.hider(id, p)}
	dir := s.dir + "/e"
	if !p.ReadOnly {
		dir = s.dir + "/c/" + id + "/u"
	}
	root, err := sys.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("diff of root filesystem %s: %w", id, err)
	}
	defer root.Close()
	if o.NoRoot, err = p.rootSame(root); err != nil {
		return fmt.Errorf("diff of root filesystem %s: %w", id, err)
	}
	if err := archive.Tar(ctx, root, "/", w, o); err != nil {
		return fmt.Errorf("diff of root filesystem %s: %w", id, err)
	}
	return nil
}

// rootSame says whether the root directory still has the attributes that Prepare gave it.
func (p *prepared) rootSame(root *sys.Root) (bool, error) {
	if p.ReadOnly {
		return true, nil
	}
	st, err := root.Stat("/")
	if err != nil {
		return false, err
	}
	return rootMeta{Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid)} == p.Root, nil
}

// hider tells which whiteouts and opaque directories hide anything. Overlayfs makes more of them than are needed.
func (s *Store) hider(id string, p *prepared) func(string, bool) bool {
	lower := s.stack(id, p, false)
	return func(name string, opaque bool) bool {
		f, err := lower.walk(name)
		switch {
		case err == nil:
			return !opaque || f.below != nil
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
			return false
		}
		return !opaque || !errors.Is(err, errIndirect) // in doubt it hides; a link is no directory
	}
}
