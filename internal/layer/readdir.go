package layer

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// openDir opens the directory name for reading; a link in its place is an error.
func openDir(dirfd int, name string) (int, error) {
	return unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// readNames lists a directory, sorted.
func readNames(dirfd int, name string) ([]string, error) {
	fd, err := openDir(dirfd, name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err := endOf(err); err != nil {
		return nil, err
	}
	slices.Sort(names)
	return names, nil
}

// endOf makes the end of a directory, or a directory that was removed meanwhile, no error.
func endOf(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
