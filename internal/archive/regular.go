package archive

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// regular makes a file and fills it.
func (u *unpacker) regular(hdr *tar.Header, p place, want Owner) error {
	chown := u.mustChown(p.parent, want)
	m := mode(hdr)
	first := m
	if chown || m > 0o777 {
		// A file that is not yet its owner's, nor complete, must not be run with anybody's rights.
		first = 0o600
	}
	var fd int
	err := u.create(p, func() (err error) {
		fd, err = unix.Openat(p.parent.fd, p.base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, first)
		return err
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := u.fill(fd, hdr); err != nil {
		// Half a file is worse than none; on a full disk it would also be what fills it.
		_ = unix.Unlinkat(p.parent.fd, p.base, 0)
		return err
	}
	if chown {
		if err := unix.Fchown(fd, want.UID, want.GID); err != nil {
			return fmt.Errorf("chown: %w", err)
		}
	}
	if first != m || m&u.umask != 0 {
		if err := unix.Fchmod(fd, m); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	if err := u.setXattrs(hdr, onFile(fd)); err != nil {
		return err
	}
	return setFDTime(fd, mtime(hdr))
}

// maxSparse bounds the zeros that a few bytes of a hostile tar can make us look at.
const maxSparse = 1 << 40

// fill copies the entry's content into fd.
func (u *unpacker) fill(fd int, hdr *tar.Header) error {
	if hdr.Size == 0 {
		return nil
	}
	sparse := isSparse(hdr)
	if sparse && hdr.Size > maxSparse {
		return invalid(fmt.Errorf("sparse file of %d bytes", hdr.Size))
	}
	for off := int64(0); ; {
		n, err := u.tar.Read(u.buf)
		if n > 0 {
			if err := u.write(fd, u.buf[:n], off, sparse); err != nil {
				return err
			}
			off += int64(n)
		}
		switch {
		case err == io.EOF:
			return u.truncate(fd, off, sparse)
		case err != nil:
			return u.readError(err)
		}
		if sparse && u.ctx.Err() != nil {
			return context.Cause(u.ctx)
		}
	}
}

func (u *unpacker) truncate(fd int, size int64, sparse bool) error {
	if !sparse {
		return nil
	}
	return unix.Ftruncate(fd, size)
}

// write writes data at off; the zeros of a sparse file become holes.
func (u *unpacker) write(fd int, data []byte, off int64, sparse bool) error {
	for len(data) > 0 {
		n := len(data)
		if sparse {
			n = min(n, 4096)
			if allZero(data[:n]) {
				data, off = data[n:], off+int64(n)
				continue
			}
		}
		if err := writeAll(fd, data[:n], off, sparse); err != nil {
			return err
		}
		data, off = data[n:], off+int64(n)
	}
	return nil
}

func writeAll(fd int, data []byte, off int64, at bool) error {
	for len(data) > 0 {
		var n int
		var err error
		if at {
			n, err = unix.Pwrite(fd, data, off)
		} else {
			n, err = unix.Write(fd, data)
		}
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		data, off = data[n:], off+int64(n)
	}
	return nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func isSparse(hdr *tar.Header) bool {
	if hdr.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}
