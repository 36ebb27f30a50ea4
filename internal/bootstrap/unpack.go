package bootstrap

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // what dpkg compares files by
	"encoding/hex"
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
	"github.com/kistdev/kist/internal/sys"
)

const (
	// maxControl bounds a package's control part, unpacked: descriptions, scripts, lists of sums.
	maxControl = 64 << 20
	// maxEntries and maxData bound what a package may unpack to.
	maxEntries = 4 << 20
	maxData    = 64 << 30
)

// unpacked is a package, and what was found in its file.
type unpacked struct {
	pkg     *debian.Package
	rank    int
	control debian.Paragraph
	// files of the control part by name, but for the control file itself.
	files map[string]controlFile
	// list are the paths in the order of the tar, as dpkg writes them.
	list []listed
	// conffiles with their MD5; sums of all files, if the package brings none.
	conffiles map[string]string
	order     []string // of conffiles
	sums      map[string]string
	// essential packages are those that the system cannot do without, and what they depend on.
	essential bool
	// careful packages are left to dpkg: their files lie at deb.
	careful bool
	size    int64
}

// listed is a path as the tar has it, and where it lies.
type listed struct {
	name, place string
	dir         bool
}

// controlFile is a script or a list.
type controlFile struct {
	data []byte
	mode uint32
}

// readControl reads the control part of a package's file.
func readControl(d *debian.Deb, p *unpacked) error {
	r, _, err := kistarchive.Decompress(d.Control)
	if err != nil {
		return fmt.Errorf("control part: %w", err)
	}
	defer r.Close()
	left := int64(maxControl)
	p.files = map[string]controlFile{}
	for t := tar.NewReader(io.LimitReader(r, maxControl+1<<20)); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("control part: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		name, err := cleanName(h.Name)
		if err != nil || h.Typeflag != tar.TypeReg || strings.Contains(name, "/") {
			if err == nil && h.Typeflag == tar.TypeDir {
				continue
			}
			return fmt.Errorf("control part: %.200q does not belong there: %w", h.Name, errdefs.ErrInvalidArgument)
		}
		if left -= h.Size; left < 0 {
			return fmt.Errorf("control part: larger than %d bytes: %w", maxControl, errdefs.ErrInvalidArgument)
		}
		data, err := io.ReadAll(t)
		if err != nil {
			return fmt.Errorf("control part: %w", err)
		}
		p.files[name] = controlFile{data, uint32(h.Mode & 0o777)} //nolint:gosec // masked
	}
	return p.readParagraph()
}

func (p *unpacked) readParagraph() (err error) {
	if p.control, err = debian.ParseParagraph(p.files["control"].data); err != nil {
		return err
	}
	delete(p.files, "control")
	own := debian.NewPackage(p.control)
	if own.Name != p.pkg.Name || own.Version != p.pkg.Version || own.Arch != p.pkg.Arch {
		return fmt.Errorf("it is %s for %s, and not what the list says: %w", own, own.Arch, errdefs.ErrDataLoss)
	}
	p.conffiles = map[string]string{}
	for line := range strings.Lines(string(p.files["conffiles"].data)) {
		if name := strings.TrimSpace(line); strings.HasPrefix(name, "/") {
			p.conffiles[name[1:]] = ""
			p.order = append(p.order, name[1:])
		}
	}
	if _, ok := p.files["md5sums"]; !ok {
		p.sums = map[string]string{}
	}
	// Of what is essential the scripts divert only what an earlier version has left.
	p.careful = !p.essential && bytes.Contains(p.files["preinst"].data, []byte("dpkg-divert"))
	return nil
}

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

// regular unpacks a file. Its bytes are read while the path is no longer locked: should another package replace the file
// meanwhile, they go into a file without a name.
func (u *unpacker) regular(parent *dirHandle, base, at, name string, h *tar.Header, r io.Reader) error {
	fd := -1
	ours, err := u.t.claim(at, u.p, func(bool) error {
		const flags = unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC
		return over(parent.fd, base, func() (err error) {
			fd, err = unix.Openat(parent.fd, base, flags, uint32(h.Mode&0o777)) //nolint:gosec // masked
			return err
		})
	})
	if err != nil {
		return err
	}
	if !ours {
		return nil // the tar's reader passes over the bytes
	}
	defer unix.Close(fd)
	_, isConf := u.p.conffiles[name]
	summed := isConf || u.p.sums != nil
	if err := u.copy(fd, r, h.Size, summed); err != nil {
		return err
	}
	if summed {
		sum := hex.EncodeToString(u.sum.Sum(nil))
		if isConf {
			u.p.conffiles[name] = sum
		} else {
			u.p.sums[name] = sum
		}
	}
	return attributes(fd, parent, base, h)
}

// attributes are given to a file that is there.
func attributes(fd int, parent *dirHandle, base string, h *tar.Header) error {
	if h.Uid != 0 || h.Gid != 0 || parent.setgid {
		if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	if h.Mode&0o7022 != 0 { // else no sensible umask has changed it
		if err := unix.Fchmod(fd, uint32(h.Mode&0o7777)); err != nil { //nolint:gosec // masked
			return err
		}
	}
	ts := timespec(h)
	err := unix.UtimesNanoAt(fd, "", ts, unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.EINVAL) { // before Linux 5.8
		err = unix.UtimesNanoAt(parent.fd, base, ts, unix.AT_SYMLINK_NOFOLLOW)
	}
	return err
}

func timespec(h *tar.Header) []unix.Timespec {
	t := unix.NsecToTimespec(h.ModTime.UnixNano())
	return []unix.Timespec{t, t}
}

// copy writes a file's bytes.
func (u *unpacker) copy(fd int, r io.Reader, size int64, summed bool) error {
	u.sum.Reset()
	for left := size; left > 0; {
		part := u.buf[:min(int64(len(u.buf)), left)]
		n, err := io.ReadFull(r, part)
		if err != nil {
			return broken(err)
		}
		if summed {
			_, _ = u.sum.Write(part)
		}
		for done := 0; done < n; {
			w, err := unix.Write(fd, part[done:n])
			if err != nil && !errors.Is(err, unix.EINTR) {
				return fmt.Errorf("write: %w", err)
			}
			done += max(w, 0)
		}
		left -= int64(n)
	}
	u.p.size += size
	return nil
}

// over makes a file in a directory, in place of one that is there. A directory stays.
func over(parent int, base string, make func() error) error {
	err := make()
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := unix.Unlinkat(parent, base, 0); err != nil {
		if errors.Is(err, unix.EISDIR) {
			return fmt.Errorf("there is a directory of another package: %w", errdefs.ErrConflict)
		}
		return err
	}
	return make()
}

func (u *unpacker) symlink(parent *dirHandle, base, at string, h *tar.Header) error {
	_, err := u.t.claim(at, u.p, func(bool) error {
		was, err := sys.ReadlinkAt(parent.fd, base)
		if err == nil && was == h.Linkname {
			return nil
		}
		var st unix.Stat_t
		if unix.Fstatat(parent.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return nil // dpkg keeps a directory where a package has a link
		}
		if err := over(parent.fd, base, func() error { return unix.Symlinkat(h.Linkname, parent.fd, base) }); err != nil {
			return err
		}
		if h.Uid != 0 || h.Gid != 0 || parent.setgid {
			if err := unix.Fchownat(parent.fd, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return err
			}
		}
		return unix.UtimesNanoAt(parent.fd, base, timespec(h), unix.AT_SYMLINK_NOFOLLOW)
	})
	return err
}

// hardlink gives a file of this package a further name.
func (u *unpacker) hardlink(parent *dirHandle, base, at, name string, h *tar.Header) error {
	target, err := cleanName(h.Linkname)
	if err != nil {
		return err
	}
	from, err := u.t.place(target)
	if err != nil {
		return err
	}
	if len(u.dirs) > maxDirs-3 {
		u.close() // so that neither of the two is closed when the other one is opened
	}
	dir, last := path.Split(from)
	src, err := u.parent(path.Clean("/" + dir))
	if err != nil {
		return err
	}
	dir, _ = path.Split(at)
	if parent, err = u.parent(path.Clean("/" + dir)); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(src.fd, last, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("link to /%s: %w", target, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("link to /%s, which is no file: %w", target, errdefs.ErrInvalidArgument)
	}
	if u.p.sums != nil && u.p.sums[target] != "" {
		u.p.sums[name] = u.p.sums[target]
	}
	if u.p.conffiles[name] == "" && u.p.conffiles[target] != "" {
		u.p.conffiles[name] = u.p.conffiles[target]
	}
	_, err = u.t.claim(at, u.p, func(bool) error {
		return over(parent.fd, base, func() error { return unix.Linkat(src.fd, last, parent.fd, base, 0) })
	})
	return err
}

func (u *unpacker) fifo(parent *dirHandle, base, at string, h *tar.Header) error {
	_, err := u.t.claim(at, u.p, func(bool) error {
		err := over(parent.fd, base, func() error {
			return unix.Mknodat(parent.fd, base, unix.S_IFIFO|uint32(h.Mode&0o777), 0) //nolint:gosec // masked
		})
		if err != nil {
			return err
		}
		return unix.Fchownat(parent.fd, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW)
	})
	return err
}
