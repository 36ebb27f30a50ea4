package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// Untar unpacks an uncompressed tar into the directory dir of root, which must exist. It reads r to the tar's end marker
// and not further; who needs the rest reads on. A tar that is broken is an errdefs.ErrInvalidArgument; an error of r is
// returned wrapped. What was unpacked before an error stays.
func Untar(ctx context.Context, root *sys.Root, dir string, r io.Reader, o UntarOptions) (Stats, error) {
	base, err := root.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return Stats{}, fmt.Errorf("unpack: %w", err)
	}
	defer base.Close()
	src := &source{r: r}
	u := &unpacker{
		ctx: ctx, root: root, base: strings.TrimSuffix("/"+strings.Trim(dir, "/"), "/"), o: o,
		tar: tar.NewReader(src), src: src, dirs: newDirCache(), umask: sys.Umask(), buf: make([]byte, copySize),
		overlay: overlayPrefix(o.UserXattr), self: newIdentity(),
	}
	defer u.dirs.flush()
	if err := u.all(); err != nil {
		return u.stats, err
	}
	return u.stats, u.finish()
}

// copySize is how much of a file is read and written at a time.
const copySize = 256 << 10

// unpacker is one Untar.
type unpacker struct {
	ctx     context.Context //nolint:containedctx // lives as long as the one call that made it
	root    *sys.Root
	base    string // directory in root that the tar's names are relative to
	o       UntarOptions
	tar     *tar.Reader
	src     *source
	dirs    *dirCache
	times   []dirTime
	umask   uint32
	self    identity
	overlay string // prefix of overlayfs's attributes
	buf     []byte
	stats   Stats
	// replaced says that something was removed, so a directory noted in times may be something else by now.
	replaced bool
	begun    bool // an entry has been read
}

// source remembers that reading failed, as opposed to what was read being wrong.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func (u *unpacker) all() error {
	for {
		if err := context.Cause(u.ctx); err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
		hdr, err := u.tar.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return u.readError(err)
		}
		u.begun = true
		if err := u.entry(hdr); err != nil {
			return &pathError{"unpack", short(hdr.Name), hostile(err)}
		}
	}
}

// readError classes an error of the tar reader: the tar is broken unless reading it failed.
func (u *unpacker) readError(err error) error {
	if u.src.err != nil {
		return fmt.Errorf("read tar: %w", u.src.err)
	}
	switch {
	case !u.begun:
		return fmt.Errorf("read tar: this is no tar archive: %w", invalid(err))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("read tar: the archive is cut off: %w", invalid(err))
	}
	return fmt.Errorf("read tar: %w", invalid(err))
}

// hostile makes a name that no file can have, or that leads through what is no directory, the tar's fault.
func hostile(err error) error {
	for _, e := range []error{unix.ENOTDIR, unix.ELOOP, unix.ENAMETOOLONG} {
		if errors.Is(err, e) {
			return invalid(err)
		}
	}
	return err
}

// short keeps a name fit for a message.
func short(name string) string {
	if len(name) > 300 {
		return name[:300] + "..."
	}
	return name
}

// invalid gives err the class of a wrong argument and keeps its text.
func invalid(err error) error { return &badTar{err} }

type badTar struct{ err error }

func (e *badTar) Error() string { return e.err.Error() }
func (e *badTar) Unwrap() []error {
	return []error{e.err, errdefs.ErrInvalidArgument}
}

// entry places one entry of the tar.
func (u *unpacker) entry(hdr *tar.Header) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := clean(hdr.Name)
	if err != nil {
		return err
	}
	if name == "" {
		return u.rootEntry(hdr)
	}
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	if u.o.Layer && strings.HasPrefix(base, whiteoutPrefix) {
		return u.whiteout(dir, base)
	}
	parent, err := u.parent(dir)
	if err != nil {
		return err
	}
	u.stats.Entries++
	return u.place(hdr, place{parent, name, base})
}

// clean makes a name relative to the root; ".." ends there, as in a chroot. The root itself is "".
func clean(name string) (string, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return "", invalid(errors.New("name with a zero byte"))
	}
	return path.Clean("/" + name)[1:], nil
}

// rootEntry applies the attributes of "./": those of a layer's root directory. Elsewhere the directory was there before
// and stays as it is.
func (u *unpacker) rootEntry(hdr *tar.Header) error {
	if hdr.Typeflag != tar.TypeDir {
		return invalid(errors.New("the root of the archive is not a directory"))
	}
	if !u.o.Layer && !u.o.Root {
		return nil
	}
	u.stats.Root = true
	fd, err := sys.OpenatInRoot(u.root.Fd(), u.base, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	want, err := u.owner(hdr)
	if err != nil {
		return err
	}
	if err := unix.Fchown(fd, want.UID, want.GID); err != nil {
		return fmt.Errorf("chown: %w", err)
	}
	if err := unix.Fchmod(fd, mode(hdr)); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	u.times = append(u.times, dirTime{"", mtime(hdr)})
	return u.setXattrs(hdr, onFile(fd))
}
