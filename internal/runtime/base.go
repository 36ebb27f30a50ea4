package runtime

import (
	"fmt"
	"os"
	goruntime "runtime"

	"golang.org/x/sys/unix"
)

// newBase makes a mount namespace with nothing in it but a read-only tmpfs that holds a null device and an empty
// directory, which hide what containers may not see. Every container's mount namespace is a copy of it: there is
// nothing of the host to copy, to make private and to unmount, and nothing of the host that a mistake could show.
func newBase() (*os.File, error) {
	type result struct {
		ns  *os.File
		err error
	}
	c := make(chan result, 1)
	onSpareThread(func() {
		ns, err := makeBase()
		c <- result{ns, err}
	})
	r := <-c
	if r.err != nil {
		return nil, fmt.Errorf("empty mount namespace: %w", r.err)
	}
	return r.ns, nil
}

// onSpareThread calls f on a thread that ends with it. That is never the main thread, which cannot end, and whose
// namespaces /proc/self shows.
func onSpareThread(f func()) {
	done := make(chan struct{})
	spare := func() {
		defer close(done)
		goruntime.LockOSThread()
		f()
	}
	go func() {
		goruntime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			spare()
			return
		}
		// While this goroutine holds the main thread, the other one gets another.
		go spare()
		<-done
		goruntime.UnlockOSThread()
	}()
	<-done
}

func makeBase() (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return nil, fmt.Errorf("unshare: %w", err)
	}
	ns, err := os.Open("/proc/thread-self/ns/mnt")
	if err != nil {
		return nil, err
	}
	// In a chroot, "/" is not the namespace's root, and what is mounted over it would not be found by those that enter: to
	// enter a mount namespace, be it one's own, is to go to its root (setns(2)).
	err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	if err != nil {
		ns.Close()
		return nil, fmt.Errorf("make private: %w", err)
	}
	if err := fillBase(); err != nil {
		ns.Close()
		return nil, err
	}
	return ns, nil
}

func fillBase() error {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fs)
	for _, kv := range [][2]string{{"source", "tmpfs"}, {"mode", "555"}, {"size", "64k"}} {
		if err := unix.FsconfigSetString(fs, kv[0], kv[1]); err != nil {
			return fmt.Errorf("fsconfig: %w", err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return fmt.Errorf("fsconfig: %w", err)
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("fsmount: %w", err)
	}
	defer unix.Close(mnt)
	if err := unix.Mknodat(mnt, "null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		return fmt.Errorf("mknod: %w", err)
	}
	if err := unix.Fchmodat(mnt, "null", 0o666, 0); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	if err := unix.Mkdirat(mnt, "empty", 0o555); err != nil {
		return fmt.Errorf("mkdir: %w", err)
	}
	ro := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC}
	if err := unix.MountSetattr(mnt, "", unix.AT_EMPTY_PATH, &ro); err != nil {
		return fmt.Errorf("mount_setattr: %w", err)
	}
	if err := unix.MoveMount(mnt, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	if err := unix.Fchdir(mnt); err != nil {
		return fmt.Errorf("chdir: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	return nil
}
