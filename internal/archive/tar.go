package archive

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// Tar writes the file or directory called name in root as an uncompressed tar, with the end marker. A last component
// that is a symbolic link is archived as one, unless name ends in "/" or "/.". Sockets are left out, as no tar can hold
// them. What vanishes while the tree is read is left out; a file that shrinks is filled up with zeros.
func Tar(ctx context.Context, root *sys.Root, name string, w io.Writer, o TarOptions) error {
	buf := bufio.NewWriterSize(w, copySize)
	p := &packer{
		ctx: ctx, o: o, out: buf, tar: tar.NewWriter(buf), links: make(map[inode]string), buf: make([]byte, copySize),
		overlay: overlayPrefix(o.UserXattr),
	}
	if o.From != "" {
		if !o.NoRoot {
			return fmt.Errorf("archive from %s on: with an entry for the root: %w", o.From, errdefs.ErrInvalidArgument)
		}
		p.from = strings.Split(o.From, "/")
	}
	if err := p.top(root, name); err != nil {
		return err
	}
	end := p.tar.Close
	if o.Open {
		end = p.tar.Flush
	}
	if err := end(); err != nil {
		return fmt.Errorf("write tar: %w", err)
	}
	if err := buf.Flush(); err != nil {
		return fmt.Errorf("write tar: %w", err)
	}
	return nil
}

// packer is one Tar.
type packer struct {
	ctx     context.Context //nolint:containedctx // lives as long as the one call that made it
	o       TarOptions
	out     *bufio.Writer
	tar     *tar.Writer
	from    []string         // the rest of the way to where archiving begins; nil once it has begun
	since   int64            // written since the last mark, about
	links   map[inode]string // names of the files that have several, as archived
	buf     []byte
	dev     uint64 // of the top, for OneFilesystem
	mount   uint64 // the mount that the top is on
	overlay string
}

type inode struct{ dev, ino uint64 }

// item is something to archive: base in the open directory dirfd.
type item struct {
	dirfd int
	base  string
	name  string // in the archive; "" for the top of a tree without a name
	st    unix.Stat_t
	fd    int // of an open file; 0 is none
	under int // of a directory: where the tree under this one has it, too; negative: it has not
}

// path is what system calls without a descriptor argument take.
func (i *item) path() string { return sys.FDPath(i.dirfd) + "/" + i.base }

func (p *packer) top(root *sys.Root, name string) error {
	parent, base, err := openTop(root, name)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	defer parent.Close()
	it := &item{dirfd: int(parent.Fd()), base: base, name: p.o.Name, under: -1}
	if p.o.Under != nil {
		it.under = p.o.Under.Fd()
	}
	if err := unix.Fstatat(it.dirfd, it.base, &it.st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &pathError{"archive", name, err}
	}
	p.dev = it.st.Dev
	if p.o.OneFilesystem {
		p.mount = mountOf(it)
	}
	isDir := it.st.Mode&unix.S_IFMT == unix.S_IFDIR
	if it.name == "" && !isDir {
		it.name = base
	}
	if isDir && p.o.NoRoot {
		return p.children(it)
	}
	return p.add(it)
}

// openTop opens the directory that holds name; a name that asks for a directory by its ending is opened itself.
func openTop(root *sys.Root, name string) (*os.File, string, error) {
	if strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.") {
		f, err := root.Open(name, unix.O_PATH|unix.O_DIRECTORY, 0)
		return f, ".", err
	}
	return root.Parent(name)
}

// add archives one item, and what is below it.
func (p *packer) add(it *item) error {
	if err := context.Cause(p.ctx); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	if len(it.name) >= unix.PathMax {
		return &pathError{"archive", it.name[:64] + "...", unix.ENAMETOOLONG}
	}
	if err := p.mark(it); err != nil {
		return err
	}
	err := p.addKind(it)
	if errors.Is(err, unix.ENOENT) {
		return nil // vanished meanwhile
	}
	return err
}

func (p *packer) addKind(it *item) error {
	switch it.st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return p.directory(it)
	case unix.S_IFREG:
		return p.regular(it)
	case unix.S_IFLNK:
		return p.symlink(it)
	case unix.S_IFSOCK:
		return nil
	case unix.S_IFCHR:
		if p.o.Upper && sys.IsWhiteout(&it.st) {
			return p.whiteout(it)
		}
		return p.device(it, tar.TypeChar)
	case unix.S_IFBLK:
		return p.device(it, tar.TypeBlock)
	case unix.S_IFIFO:
		return p.device(it, tar.TypeFifo)
	}
	return &pathError{"archive", it.name, fmt.Errorf("file of unknown type %o", it.st.Mode)}
}

// children archives what is in a directory, in the order of the names.
func (p *packer) children(dir *item) error {
	d, err := openListing(dir)
	if err != nil {
		return &pathError{"archive", dir.name, err}
	}
	defer d.close()
	from := p.from
	p.from = nil
	for _, e := range d.entries {
		if p.o.Upper && strings.HasPrefix(e.base, whiteoutPrefix) {
			continue // would hide something when unpacked; the format has no way to write it
		}
		if from != nil && e.base < from[0] {
			continue
		}
		it, err := d.item(dir, e)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return &pathError{"archive", dir.name + "/" + e.base, err}
		}
		if from == nil {
			err = p.add(it)
		} else {
			err = p.begin(it, from)
			from = nil
		}
		if err != nil {
			return err
		}
	}
	if from != nil {
		return p.lost(dir.name + "/" + from[0])
	}
	return nil
}
