package treesum

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dirBuffer is how much of a directory is read at a time; large ones make fewer calls.
const dirBuffer = 64 << 10

var dirBuffers = sync.Pool{New: func() any { return new([dirBuffer]byte) }}

// statxMask is what a node wants to know.
const statxMask = unix.STATX_TYPE | unix.STATX_MODE | unix.STATX_NLINK | unix.STATX_UID | unix.STATX_GID | unix.STATX_MTIME |
	unix.STATX_CTIME | unix.STATX_INO | unix.STATX_SIZE

// Parts of struct linux_dirent64.
const (
	direntLength = 16
	direntType   = 18
	direntName   = 19
)

// list reads the open directory fd, calls statx for each entry that wants says, and returns the nodes sorted by name. The
// names stay in the kernel's buffer until they are copied all at once, and statx takes them from there. Sockets are left out,
// as no layer can hold them, and so is what vanishes meanwhile.
func list(fd int, want func(name string, isDir, known bool) bool) ([]*Node, error) {
	buf, _ := dirBuffers.Get().(*[dirBuffer]byte)
	defer dirBuffers.Put(buf)
	var all []*Node
	for {
		n, err := unix.Getdents(fd, buf[:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("getdents64", err)
		}
		if n == 0 {
			break
		}
		if all, err = stats(fd, buf[:n], all, want); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b *Node) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// stats makes nodes of the entries in buf.
func stats(fd int, buf []byte, all []*Node, want func(string, bool, bool) bool) ([]*Node, error) {
	names := string(buf) // one copy, which all names are parts of
	nodes := make([]Node, 0, 1+len(buf)/48)
	var st unix.Statx_t
	for off := 0; off < len(buf); {
		length := int(binary.NativeEndian.Uint16(buf[off+direntLength:]))
		start, kind := off+direntName, buf[off+direntType]
		end := start + bytes.IndexByte(buf[start:off+length], 0)
		off += length
		name := names[start:end]
		if name == "." || name == ".." || kind == unix.DT_SOCK {
			continue
		}
		if !want(name, kind == unix.DT_DIR, kind != unix.DT_UNKNOWN) {
			continue
		}
		err := statx(fd, &buf[start], &st)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "stat", Path: name, Err: err}
		}
		if st.Mode&unix.S_IFMT == unix.S_IFSOCK {
			continue
		}
		if len(nodes) == cap(nodes) {
			nodes = make([]Node, 0, 64)
		}
		nodes = append(nodes, Node{Name: name})
		one := &nodes[len(nodes)-1]
		one.fill(&st)
		all = append(all, one)
	}
	return all, nil
}

// statx describes the file whose name begins at name and ends with a zero byte.
func statx(dirfd int, name *byte, st *unix.Statx_t) error {
	for {
		_, _, errno := unix.Syscall6(unix.SYS_STATX, uintptr(dirfd), uintptr(unsafe.Pointer(name)),
			unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, statxMask, uintptr(unsafe.Pointer(st)), 0)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
			continue
		}
		return errno
	}
}
