package sys

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// ListXattrs lists the names of path's extended attributes, without following a last link. A filesystem without any has
// none.
func ListXattrs(path string) ([]string, error) {
	var small [512]byte
	buf := small[:]
	for {
		n, err := unix.Llistxattr(path, buf)
		switch {
		case err == nil && n == 0:
			return nil, nil
		case err == nil:
			return strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00"), nil
		case errors.Is(err, unix.ENOTSUP):
			return nil, nil
		case err != unix.ERANGE || len(buf) >= 1<<20:
			return nil, err
		}
		buf = make([]byte, 8*len(buf))
	}
}

// GetXattr reads an extended attribute of path, without following a last link.
func GetXattr(path, name string) ([]byte, error) {
	var small [256]byte
	buf := small[:]
	for {
		n, err := unix.Lgetxattr(path, name, buf)
		if err == nil {
			return append([]byte(nil), buf[:n]...), nil
		}
		if err != unix.ERANGE || len(buf) >= 1<<20 {
			return nil, err
		}
		buf = make([]byte, 16*len(buf))
	}
}

// IsOpaque says whether a directory of an overlay's layer hides what lower layers have below it. The prefix is
// "trusted.overlay." or "user.overlay.".
func IsOpaque(path, prefix string) (bool, error) {
	var value [2]byte
	n, err := unix.Lgetxattr(path, prefix+"opaque", value[:])
	switch {
	case err == nil:
		return n == 1 && value[0] == 'y', nil
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ERANGE):
		return false, nil
	}
	return false, err
}

// PortableXattr says whether an extended attribute belongs to the file rather than to this host: it goes into archives and
// copies. Labels of security modules are the host's, overlayfs's marks the overlay's.
func PortableXattr(name string) bool {
	switch {
	case strings.HasPrefix(name, "trusted.overlay."), strings.HasPrefix(name, "user.overlay."):
		return false
	case name == "security.capability", strings.HasPrefix(name, "system.posix_acl_"):
		return true
	}
	return strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted.")
}
