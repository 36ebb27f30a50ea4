package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// header is what all kinds have in common.
func (p *packer) header(it *item, kind byte) (*tar.Header, error) {
	o := Owner{int(it.st.Uid), int(it.st.Gid)}
	if p.o.MapOwner != nil {
		var err error
		if o, err = p.o.MapOwner(o); err != nil {
			return nil, &pathError{"archive", it.name, err}
		}
	}
	hdr := &tar.Header{
		Typeflag: kind, Name: it.name, Mode: int64(it.st.Mode & 0o7777), Uid: o.UID, Gid: o.GID,
		ModTime: p.time(it),
	}
	return hdr, p.addXattrs(it, hdr)
}

// time is the item's time of modification as archived.
func (p *packer) time(it *item) time.Time {
	t := time.Unix(it.st.Mtim.Unix())
	if p.o.Latest != nil && t.After(*p.o.Latest) {
		t = *p.o.Latest
	}
	return t.Truncate(time.Second)
}

func (p *packer) write(hdr *tar.Header) error {
	if err := p.tar.WriteHeader(hdr); err != nil {
		return &pathError{"archive", hdr.Name, err}
	}
	p.since += tarBlock + hdr.Size
	return nil
}

func (p *packer) directory(it *item) error {
	hdr, err := p.header(it, tar.TypeDir)
	if err != nil {
		return err
	}
	hdr.Name = it.name + "/"
	if it.name == "" {
		hdr.Name = "./"
	}
	if err := p.write(hdr); err != nil {
		return err
	}
	if err := p.opaque(it); err != nil {
		return err
	}
	if p.o.OneFilesystem && it.st.Dev != p.dev {
		return nil
	}
	return p.children(it)
}

// again writes a further name of a file that was archived already, and reports whether it did.
func (p *packer) again(it *item) (bool, error) {
	if it.st.Nlink < 2 {
		return false, nil
	}
	id := inode{it.st.Dev, it.st.Ino}
	first, ok := p.links[id]
	if !ok {
		p.links[id] = it.name
		return false, nil
	}
	hdr, err := p.header(it, tar.TypeLink)
	if err != nil {
		return false, err
	}
	hdr.Linkname, hdr.PAXRecords = first, nil
	return true, p.write(hdr)
}

func (p *packer) symlink(it *item) error {
	if done, err := p.again(it); done || err != nil {
		return err
	}
	target, err := sys.ReadlinkAt(it.dirfd, it.base)
	if err != nil {
		return &pathError{"archive", it.name, err}
	}
	hdr, err := p.header(it, tar.TypeSymlink)
	if err != nil {
		return err
	}
	hdr.Linkname, hdr.Mode = target, 0o777
	return p.write(hdr)
}

func (p *packer) device(it *item, kind byte) error {
	if done, err := p.again(it); done || err != nil {
		return err
	}
	hdr, err := p.header(it, kind)
	if err != nil {
		return err
	}
	if kind != tar.TypeFifo {
		hdr.Devmajor, hdr.Devminor = int64(unix.Major(it.st.Rdev)), int64(unix.Minor(it.st.Rdev))
	}
	return p.write(hdr)
}

func (p *packer) regular(it *item) error {
	if done, err := p.again(it); done || err != nil {
		return err
	}
	if it.st.Size == 0 || p.mounted(it) {
		hdr, err := p.header(it, tar.TypeReg)
		if err != nil {
			return err
		}
		return p.write(hdr)
	}
	fd, err := p.open(it)
	if fd < 0 || err != nil {
		return err
	}
	defer unix.Close(fd)
	it.fd = fd
	hdr, err := p.header(it, tar.TypeReg)
	if err != nil {
		return err
	}
	hdr.Size = it.st.Size
	if err := p.write(hdr); err != nil {
		return err
	}
	if err := p.content(fd, hdr.Size); err != nil {
		return &pathError{"archive", it.name, err}
	}
	return nil
}

// mounted says that a file is mounted where it is, and not wanted: its place is an empty file. Files of one overlay may have
// several devices, so that another device alone does not tell.
func (p *packer) mounted(it *item) bool {
	return p.o.OneFilesystem && it.st.Dev != p.dev && mountOf(it) != p.mount
}

// mountOf is the number of the mount that something is on, 0 where the kernel does not tell (before Linux 5.8).
func mountOf(it *item) uint64 {
	var st unix.Statx_t
	err := unix.Statx(it.dirfd, it.base, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID, &st)
	if err != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return 0
	}
	return st.Mnt_id
}

// open opens a regular file for reading; the descriptor is negative if it is none any more.
func (p *packer) open(it *item) (int, error) {
	if p.o.Still {
		fd, err := unix.Openat(it.dirfd, it.base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOATIME|unix.O_CLOEXEC, 0)
		if err == nil {
			return fd, nil
		}
		if err != unix.EPERM { // O_NOATIME is for the owner
			return -1, &pathError{"archive", it.name, err}
		}
	}
	// Opened for its place only, until it is known that no device was put there meanwhile.
	fd, err := unix.Openat(it.dirfd, it.base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &pathError{"archive", it.name, err}
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &it.st); err != nil {
		return -1, &pathError{"archive", it.name, err}
	}
	if it.st.Mode&unix.S_IFMT != unix.S_IFREG {
		return -1, nil // replaced while it was looked at
	}
	rfd, err := sys.Reopen(fd, unix.O_RDONLY)
	if err != nil {
		return -1, &pathError{"archive", it.name, err}
	}
	return rfd, nil
}

// content writes size bytes of fd: not more if it grows, zeros if it shrinks.
func (p *packer) content(fd int, size int64) error {
	for size > 0 {
		b := p.buf[:min(size, int64(len(p.buf)))]
		n, err := unix.Read(fd, b)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			clear(b)
			n = len(b)
		}
		if _, err := p.tar.Write(b[:n]); err != nil {
			return err
		}
		size -= int64(n)
		if p.ctx.Err() != nil {
			return p.ctx.Err()
		}
	}
	return nil
}

// whiteout writes an overlay's whiteout as the image format's.
func (p *packer) whiteout(it *item) error {
	if p.o.Hidden != nil && !p.o.Hidden(it.name, false) {
		return nil
	}
	dir, base := splitName(it.name)
	return p.marker(dir, whiteoutPrefix+base)
}

// opaque writes the mark of an opaque directory, if it is one.
func (p *packer) opaque(it *item) error {
	if !p.o.Upper {
		return nil
	}
	is, err := sys.IsOpaque(it.path(), p.overlay)
	if err != nil {
		return &pathError{"archive", it.name, err}
	}
	if !is || p.o.Hidden != nil && !p.o.Hidden(it.name, true) {
		return nil
	}
	return p.marker(it.name, whiteoutOpaque)
}

func (p *packer) marker(dir, base string) error {
	if dir != "" {
		base = dir + "/" + base
	}
	return p.write(&tar.Header{
		Typeflag: tar.TypeReg, Name: base, Mode: 0o600,
		ModTime: time.Unix(0, 0), // when it was made says nothing
	})
}

// addXattrs notes the attributes that belong to the file rather than to this host.
func (p *packer) addXattrs(it *item, hdr *tar.Header) error {
	names, err := it.xattrs()
	if err != nil {
		return &pathError{"archive", it.name, err}
	}
	for _, name := range names {
		if p.o.Upper && (name == p.overlay+"redirect" || name == p.overlay+"metacopy") {
			err := fmt.Errorf("overlay attribute %s: %w", name, errdefs.ErrNotImplemented)
			return &pathError{"archive", it.name, err}
		}
		if !sys.PortableXattr(name) {
			continue
		}
		value, err := sys.GetXattr(it.path(), name)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return &pathError{"archive", it.name, err}
		}
		if hdr.PAXRecords == nil {
			hdr.PAXRecords = make(map[string]string)
		}
		hdr.PAXRecords[xattrRecord+name] = string(value)
	}
	return nil
}

// xattrs lists the item's extended attributes, by its descriptor if it is open.
func (i *item) xattrs() ([]string, error) {
	if i.fd > 0 {
		var none [1]byte
		if n, err := unix.Flistxattr(i.fd, none[:0]); err == nil && n == 0 {
			return nil, nil
		}
	}
	return sys.ListXattrs(i.path())
}
