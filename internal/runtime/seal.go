package runtime

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Seal makes the running program's file one that cannot be written through /proc/PID/exe, by executing it again from a
// read-only mount that nobody else can reach, or from a sealed copy in memory. Until its execve a child of the fast
// executor has this process's /proc/self/exe, and a hostile image can make the kernel run that file inside of the
// container ("#!/proc/self/exe"), where it could be opened for writing after the process has ended (CVE-2019-5736).
//
// A process that calls New calls it before all else but MaybeChild. It returns nil in the program that is sealed.
func Seal() error {
	if sealed() {
		// The kernel named the process by the descriptor's number.
		return writeFile("/proc/self/comm", filepath.Base(os.Args[0]))
	}
	fd, err := readOnlySelf()
	if err != nil {
		f, e := sealedCopy()
		if e != nil {
			return fmt.Errorf("seal this program: %w", errors.Join(err, e))
		}
		fd = fdOf(f)
	}
	err = unix.Exec(fmt.Sprintf("/proc/self/fd/%d", fd), os.Args, os.Environ())
	return fmt.Errorf("execute the sealed program: %w", err)
}

// sealed says whether this program's file is on a read-only mount, or is a sealed copy in memory.
func sealed() bool {
	var st unix.Statfs_t
	if unix.Statfs("/proc/self/exe", &st) == nil && st.Flags&unix.ST_RDONLY != 0 {
		return true
	}
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return false
	}
	defer f.Close()
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	return err == nil && seals&unix.F_SEAL_WRITE != 0
}

// readOnlySelf is this program's file by a read-only mount of its own. It closes by itself on execve.
func readOnlySelf() (int, error) {
	name, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return -1, err
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, err
	}
	ro := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &ro); err != nil {
		unix.Close(fd)
		return -1, err
	}
	var self, there unix.Stat_t
	if err := errors.Join(unix.Stat("/proc/self/exe", &self), unix.Fstat(fd, &there)); err != nil {
		unix.Close(fd)
		return -1, err
	}
	if self.Dev != there.Dev || self.Ino != there.Ino {
		unix.Close(fd)
		return -1, errors.New("the program's file has been replaced")
	}
	return fd, nil
}

// sealedCopy is a copy of this program in memory that cannot be changed.
func sealedCopy() (*os.File, error) {
	src, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	defer src.Close()
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(childName, flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate(childName, flags)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	dst := os.NewFile(uintptr(fd), childName)
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		return nil, fmt.Errorf("copy of this program: %w", err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		dst.Close()
		return nil, fmt.Errorf("seal copy of this program: %w", err)
	}
	return dst, nil
}
