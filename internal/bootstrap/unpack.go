package bootstrap

import (
	"archive/tar"
	"context"
	"crypto/md5" //nolint:gosec // what dpkg compares files by
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	kistarchive "github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/debian"
)

const (
	// maxControl bounds a package's control part, unpacked: descriptions, scripts, lists of sums.
	maxControl = 64 << 20
	// maxEntries and maxData bound what a package may unpack to.
	maxEntries = 4 << 20
	maxData    = 64 << 30
)

// unpacker unpacks packages, one after the other.
type unpacker struct {
	t    *tree
	p    *unpacked
	buf  []byte
	dirs map[string]*dirHandle
	sum  hash.Hash
}

// dirHandle is an open directory.
type dirHandle struct {
	fd     int
	gid    int
	setgid bool
}

func newUnpacker(t *tree) *unpacker {
	return &unpacker{t: t, buf: make([]byte, 256<<10), dirs: map[string]*dirHandle{}, sum: md5.New()} //nolint:gosec // as above
}

// close gives the directories back.
func (u *unpacker) close() {
	for _, h := range u.dirs {
		_ = unix.Close(h.fd)
	}
	clear(u.dirs)
}

// data unpacks a package's files.
func (u *unpacker) data(ctx context.Context, d *debian.Deb, p *unpacked) error {
	u.p = p
	r, _, err := kistarchive.Decompress(d.Data)
	if err != nil {
		return err
	}
	defer r.Close()
	t := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return broken(err)
		}
		if n > maxEntries || p.size > maxData {
			return fmt.Errorf("it unpacks to more than any package: %w", errdefs.ErrInvalidArgument)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := u.entry(h, t); err != nil {
			return err
		}
	}
	_, err = io.Copy(io.Discard, r) // to see that the checksum is right
	return broken(err)
}

// broken gives errors of formats their class; those of the file system have their own.
func broken(err error) error {
	var call unix.Errno
	if err == nil || errors.As(err, &call) {
		return err
	}
	return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
}

// entry unpacks an entry.
func (u *unpacker) entry(h *tar.Header, r io.Reader) error {
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if name == "" {
		u.p.list = append(u.p.list, listed{name: "/.", dir: true})
		return nil
	}
	at, err := u.t.place(name)
	if err != nil {
		return err
	}
	one := listed{name: "/" + name, place: at, dir: h.Typeflag == tar.TypeDir}
	dir, base := path.Split(at)
	parent, err := u.parent(path.Clean("/" + dir))
	if err != nil {
		return fmt.Errorf("/%s: %w", name, err)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		err = u.directory(parent, base, at, h)
	case tar.TypeReg:
		err = u.regular(parent, base, at, name, h, r)
	case tar.TypeSymlink:
		err = u.symlink(parent, base, at, h)
	case tar.TypeLink:
		err = u.hardlink(parent, base, at, name, h)
	case tar.TypeFifo:
		err = u.fifo(parent, base, at, h)
	default:
		err = fmt.Errorf("a file of type %q has no place in a package: %w", h.Typeflag, errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return fmt.Errorf("/%s: %w", name, err)
	}
	u.p.list = append(u.p.list, one)
	return nil
}

// maxDirs is how many directories are kept open.
const maxDirs = 200

// parent opens a directory, and makes it if it is missing.
func (u *unpacker) parent(dir string) (*dirHandle, error) {
	if h := u.dirs[dir]; h != nil {
		return h, nil
	}
	fd, err := u.t.root.OpenFD(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		var f *os.File
		if f, err = u.t.root.MkdirAll(dir, 0o755); err == nil {
			fd, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
			_ = f.Close() // there is a copy
		}
	}
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	if len(u.dirs) >= maxDirs {
		u.close()
	}
	h := &dirHandle{fd: fd, gid: int(st.Gid), setgid: st.Mode&unix.S_ISGID != 0}
	u.dirs[dir] = h
	return h, nil
}

func (u *unpacker) directory(parent *dirHandle, base, at string, h *tar.Header) error {
	if u.t.merged && !strings.Contains(at, "/") {
		if _, link := u.t.links.Load(at); link {
			return nil
		}
	}
	return u.t.directory(parent.fd, base, at, dirOwner{u.p.rank, uint32(h.Mode & 0o7777), h.Uid, h.Gid}) //nolint:gosec // masked
}
