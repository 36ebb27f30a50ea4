package sys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// OpenRegular opens the regular file name for reading. What it is gets known before it is opened: opening a device that
// a hostile tree put in the file's place can have effects, opening a FIFO can wait for ever.
func (r *Root) OpenRegular(name string) (*os.File, error) {
	fd, err := r.OpenFD(name, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	rfd, err := Reopen(fd, unix.O_RDONLY)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(rfd), name), nil
}

// Reopen opens the file behind a descriptor that was opened with O_PATH.
func Reopen(fd, flags int) (int, error) {
	return retry(func() (int, error) { return unix.Open(FDPath(fd), flags|unix.O_CLOEXEC, 0) })
}

// FDPath is a path to the file behind fd, whatever its name is by now, for calls that take no O_PATH descriptor.
func FDPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// ReadFile reads a regular file of at most max bytes.
func (r *Root) ReadFile(name string, max int64) ([]byte, error) {
	f, err := r.OpenRegular(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > max {
		return nil, &fs.PathError{Op: "read", Path: name, Err: unix.EFBIG}
	}
	return data, nil
}

// MkdirAll makes the directory name and the missing ones above it and opens it (O_PATH). Links are followed inside the
// root; one that leads to nothing has its target made. A component that is there but is no directory is unix.ENOTDIR.
func (r *Root) MkdirAll(name string, mode uint32) (*os.File, error) {
	return r.mkdirAll(name, mode, 40)
}

func (r *Root) mkdirAll(name string, mode uint32, links int) (*os.File, error) {
	dir, err := r.Open(".", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	walked := "/"
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." {
			continue
		}
		next, err := r.enter(dir, walked, part, mode, links)
		dir.Close()
		if err != nil {
			return nil, err
		}
		dir, walked = next, join(walked, part)
	}
	return dir, nil
}

// join appends part without touching "..": path.Join would take the wrong turn after a link.
func join(dir, part string) string { return strings.TrimSuffix(dir, "/") + "/" + part }

// enter opens part in the directory dir, whose path is walked; it is made if it is missing.
func (r *Root) enter(dir *os.File, walked, part string, mode uint32, links int) (*os.File, error) {
	const how = unix.O_PATH | unix.O_DIRECTORY
	whole := join(walked, part)
	next, err := r.Open(whole, how, 0)
	if !errors.Is(err, fs.ErrNotExist) || part == ".." {
		return next, err
	}
	switch err := unix.Mkdirat(int(dir.Fd()), part, mode); err {
	case nil:
		return r.Open(whole, how, 0)
	case unix.EEXIST: // a link that leads nowhere, or somebody else was faster
	default:
		return nil, &fs.PathError{Op: "mkdir", Path: whole, Err: err}
	}
	target, err := ReadlinkAt(int(dir.Fd()), part)
	if err != nil {
		return r.Open(whole, how, 0)
	}
	if links == 0 {
		return nil, &fs.PathError{Op: "mkdir", Path: whole, Err: unix.ELOOP}
	}
	if !path.IsAbs(target) {
		target = join(walked, target)
	}
	return r.mkdirAll(target, mode, links-1)
}
