package sys

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Root is a directory tree in which hostile paths are resolved: no symbolic link, "..", or magic link leads out of it
// (openat2 with RESOLVE_IN_ROOT, Linux 5.6). Absolute paths and absolute links are taken from the root, as chroot takes
// them; mounts inside the tree are crossed. A Root is safe for concurrent use until it is closed.
type Root struct {
	dir  *os.File
	once sync.Once
	err  error
}

// inRoot is how every path is resolved; RESOLVE_IN_ROOT implies no magic links today, saying so keeps it that way.
const inRoot = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS

// OpenRoot opens the directory dir, following symbolic links: dir itself is trusted, what is below it is not.
func OpenRoot(dir string) (*Root, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open root", Path: dir, Err: err}
	}
	return NewRoot(os.NewFile(uintptr(fd), dir)), nil
}

// NewRoot makes a root of an open directory (a detached mount, /proc/PID/root) and takes it over: Close closes it.
func NewRoot(dir *os.File) *Root { return &Root{dir: dir} }

// Close closes the directory. Of a detached mount that was the last reference, so it is unmounted.
func (r *Root) Close() error {
	r.once.Do(func() { r.err = r.dir.Close() })
	return r.err
}

// File is the root directory itself, for calls that take a descriptor. It stays the Root's.
func (r *Root) File() *os.File { return r.dir }

// Fd is the root directory's descriptor; it may be opened with O_PATH only.
func (r *Root) Fd() int { return int(r.dir.Fd()) }

// OpenFD opens name inside the root, as open(2) with flags and mode. A last component that is a symbolic link is
// followed inside the root, unless flags say O_NOFOLLOW. The descriptor is closed on exec.
func (r *Root) OpenFD(name string, flags int, mode uint32) (int, error) {
	return OpenatInRoot(r.Fd(), name, flags, mode)
}

// Open is OpenFD for those who want a file.
func (r *Root) Open(name string, flags int, mode uint32) (*os.File, error) {
	fd, err := r.OpenFD(name, flags, mode)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// OpenatInRoot opens name with the directory dirfd as its root.
func OpenatInRoot(dirfd int, name string, flags int, mode uint32) (int, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return -1, &fs.PathError{Op: "open", Path: name, Err: unix.EINVAL}
	}
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: inRoot}
	if flags&(unix.O_CREAT|unix.O_TMPFILE) != 0 {
		how.Mode = uint64(mode)
	}
	if name == "" {
		name = "."
	}
	fd, err := retry(func() (int, error) { return unix.Openat2(dirfd, name, &how) })
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: shorten(name), Err: err}
	}
	return fd, nil
}

// shorten keeps a path fit for a message.
func shorten(path string) string {
	if len(path) > 300 {
		return path[:300] + "..."
	}
	return path
}

// retry repeats a call that was interrupted, or whose path was renamed while the kernel resolved a "..". The second can
// be provoked by whoever owns the tree, so it ends.
func retry(call func() (int, error)) (int, error) {
	for n := 0; ; n++ {
		v, err := call()
		if (errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN)) && n < 128 {
			continue
		}
		return v, err
	}
}

// Parent opens the directory that holds name's last component and returns it with that component. Links are followed in
// the directory part only. The root itself, ".", and names that end in ".." give the directory and ".".
func (r *Root) Parent(name string) (*os.File, string, error) {
	dir, base := split(name)
	f, err := r.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	return f, base, err
}

// split parts name into the directory and the last component, which is "." if name means a directory by itself. It does
// not touch "..": what it means depends on links, so only the kernel may resolve it.
func split(name string) (dir, base string) {
	name = strings.Trim(name, "/")
	i := strings.LastIndexByte(name, '/')
	dir, base = name[:i+1], name[i+1:]
	if base == "" || base == "." || base == ".." {
		return "/" + name, "."
	}
	return "/" + dir, base
}

// Lstat describes name without following a last symbolic link.
func (r *Root) Lstat(name string) (unix.Stat_t, error) {
	return r.stat(name, unix.O_NOFOLLOW)
}

// Stat describes what name leads to.
func (r *Root) Stat(name string) (unix.Stat_t, error) { return r.stat(name, 0) }

func (r *Root) stat(name string, flag int) (unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := r.OpenFD(name, unix.O_PATH|flag, 0)
	if err != nil {
		return st, err
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &st); err != nil {
		return st, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return st, nil
}

// Readlink reads the symbolic link name.
func (r *Root) Readlink(name string) (string, error) {
	fd, err := r.OpenFD(name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	target, err := ReadlinkAt(fd, "")
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return target, nil
}

// ReadlinkAt reads the symbolic link name in the directory dirfd; an empty name reads the link that dirfd itself is.
func ReadlinkAt(dirfd int, name string) (string, error) {
	buf := make([]byte, 256)
	for {
		n, err := unix.Readlinkat(dirfd, name, buf)
		if err != nil {
			return "", err
		}
		if n < len(buf) {
			return string(buf[:n]), nil
		}
		buf = make([]byte, 2*len(buf))
	}
}

// Resolve follows every symbolic link in name inside the root and returns the path of what it leads to, which must
// exist, as seen from the root: docker's idea of a container path's true name.
func (r *Root) Resolve(name string) (string, error) {
	fd, err := r.OpenFD(name, unix.O_PATH, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	base, err := pathOf(r.Fd())
	if err != nil {
		return "", err
	}
	full, err := pathOf(fd)
	if err != nil {
		return "", err
	}
	switch {
	case base == "/":
		return path.Clean(full), nil
	case full == base:
		return "/", nil
	case strings.HasPrefix(full, base+"/"):
		return full[len(base):], nil
	}
	return "", &fs.PathError{Op: "resolve", Path: name, Err: unix.EXDEV}
}

// pathOf is what the kernel calls an open file. Only for showing and comparing, never for opening.
func pathOf(fd int) (string, error) {
	return ReadlinkAt(unix.AT_FDCWD, FDPath(fd))
}
