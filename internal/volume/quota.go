package volume

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"unsafe"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
)

// The kernel's interfaces for project quotas, which ext4 and XFS have.
const (
	ioctlGetAttr = 0x801c581f // FS_IOC_FSGETXATTR
	ioctlSetAttr = 0x401c5820 // FS_IOC_FSSETXATTR
	flagInherit  = 0x200      // FS_XFLAG_PROJINHERIT

	quotactlFD   = 443
	projectQuota = 2
	setQuota     = 0x800008<<8 | projectQuota // QCMD(Q_SETQUOTA, PRJQUOTA)
	limitsValid  = 1                          // QIF_BLIMITS
	quotaBlock   = 1024
)

// attributes is the kernel's struct fsxattr.
type attributes struct {
	flags, extentSize, extents, project, cowExtentSize uint32
	_                                                  [8]byte
}

// limits is the kernel's struct if_dqblk.
type limits struct {
	blockHard, blockSoft, space, inodeHard, inodeSoft, inodes, blockTime, inodeTime uint64
	valid                                                                           uint32
	_                                                                               [4]byte
}

// firstProject and the numbers after it are used for volumes; /etc/projects has small ones.
const firstProject = 0x4b000000

// newProject is a project's number that no volume has. The caller holds the lock.
func (s *Store) newProject() uint32 {
	for {
		id := firstProject + rand.Uint32N(1<<24)
		taken := false
		for _, e := range s.volumes {
			taken = taken || e.Project == id
		}
		if !taken {
			return id
		}
	}
}

// limit makes the directory, which must be empty, a project of its own that may have so many bytes.
func limit(dir string, project uint32, bytes int64) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := setLimit(f, project, bytes); err != nil {
		return noQuotas(err)
	}
	var a attributes
	if err := ioctl(f, ioctlGetAttr, unsafe.Pointer(&a)); err != nil {
		return errors.Join(noQuotas(err), setLimit(f, project, 0))
	}
	a.flags |= flagInherit
	a.project = project
	if err := ioctl(f, ioctlSetAttr, unsafe.Pointer(&a)); err != nil {
		return errors.Join(noQuotas(err), setLimit(f, project, 0))
	}
	return nil
}

// unlimit forgets a project's limit.
func unlimit(dir string, project uint32) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return setLimit(f, project, 0)
}

func setLimit(f *os.File, project uint32, bytes int64) error {
	l := limits{blockHard: uint64((bytes + quotaBlock - 1) / quotaBlock), valid: limitsValid}
	_, _, errno := unix.Syscall6(quotactlFD, f.Fd(), setQuota, uintptr(project), uintptr(unsafe.Pointer(&l)), 0, 0)
	switch errno {
	case 0:
		return nil
	case unix.ESRCH, unix.ENOSYS, unix.ENOTSUP:
		return fmt.Errorf("quotas are off: %w", errno)
	}
	return fmt.Errorf("set the quota of project %d: %w", project, errno)
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// noQuotas says what a size needs that this host does not have.
func noQuotas(err error) error {
	f := &fault.Error{
		Code: "volume-quota", What: "cannot limit the volume's size", Class: errdefs.ErrNotImplemented, Err: err,
		Cause: "the file system of the data root has no project quotas (" + err.Error() + ")",
		Try:   "mount it with prjquota (ext4: tune2fs -O project,quota first; XFS: pquota), or a tmpfs: --opt type=tmpfs --opt device=tmpfs --opt o=size=...",
	}
	if errors.Is(err, unix.EPERM) {
		f.Class = errdefs.ErrPermissionDenied
	}
	return f
}
