package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

// Names lists a directory that is open, in no order. The descriptor's own position in it stays as it is.
func Names(dirfd int) ([]string, error) {
	fd, err := unix.Openat(dirfd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "directory")
	defer f.Close()
	return f.Readdirnames(-1)
}
