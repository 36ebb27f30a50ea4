package fileop

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/sys"
	"github.com/kistdev/kist/internal/treesum"
)

// unpack unpacks a file into the destination if it is an archive, and says whether it was.
func (c *copier) unpack(ctx context.Context, m treesum.Match) (bool, error) {
	fd, err := c.sel.OpenParent(m.Node)
	if err != nil {
		return false, c.lost(err)
	}
	from := newOrigin(fd)
	defer from.release()
	src, err := c.openFile(m.Node, from)
	if src < 0 || err != nil {
		return false, err
	}
	f := os.NewFile(uintptr(src), m.Node.Name)
	defer f.Close()
	is, err := isArchive(f)
	if !is || err != nil {
		return false, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return true, err
	}
	r, err := decompress(f)
	if err != nil {
		return true, err
	}
	if err = errors.Join(c.untar(ctx, r), r.Close()); err != nil {
		return true, err
	}
	return true, c.confirm(ctx, m.Node, from, src, src)
}

// isArchive says whether a file begins, once decompressed, as a tar does.
func isArchive(f *os.File) (bool, error) {
	r, err := decompress(f)
	if err != nil {
		if _, known := fault.As(err); known {
			return false, err
		}
		return false, nil
	}
	_, err = tar.NewReader(r).Next()
	_ = r.Close() // it was cut short
	return err == nil, nil
}

// decompress reads a file that is compressed or not.
func decompress(f *os.File) (io.ReadCloser, error) {
	r, _, err := archive.Decompress(bufio.NewReaderSize(f, 64<<10))
	return r, err
}

// untar unpacks into the destination, which is made. Where nothing shows from below, the tar is unpacked into the new layer
// directly; elsewhere through a mount, which knows how to put files over others.
func (c *copier) untar(ctx context.Context, r io.Reader) error {
	parts, err := c.d.resolve(c.op.Dest)
	if err != nil {
		return err
	}
	made := []*dir{}
	p, err := c.d.mkdirAll(parts, newDir{mode: 0o755, who: c.who, time: c.time, made: &made})
	c.d.settle(made, c.time)
	if err != nil {
		return err
	}
	direct := p.fd >= 0 && p.lower < 0
	p.release()
	root := c.d.upper
	if !direct {
		if root, err = c.d.mount(); err != nil {
			return err
		}
		defer root.Close()
	}
	o := archive.UntarOptions{NoOverlay: true}
	if c.who != nil {
		o.Owner = &archive.Owner{UID: c.who.uid, GID: c.who.gid}
	}
	if _, err = archive.Untar(ctx, root, "/"+path.Join(parts...), r, o); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	return nil
}

// mount mounts the tree for writing. Until it is closed, nothing else may be written; afterwards directories have to be
// looked at again.
func (d *dest) mount() (*sys.Root, error) {
	return d.layers.Mount(d.id)
}
