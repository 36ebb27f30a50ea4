package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The hooks called createContainer are programs of the host that change the container's file system before its process runs: they
// make links, write the linker's cache, mount something over a file. They get a mount namespace of their own, which is the host's
// with the container's root filesystem in a bundle:
//
//	BUNDLE/config.json  the specification
//	BUNDLE/rootfs       the container's mounts: what is mounted on these appears in the container too
//
// The container's process exists and waits. Network, names and IPC are already the container's.

// insideShared are the mounts of a container on which a hook may mount something.
var insideShared = []string{"/", "/proc", "/sys", "/dev"}

// insideHooks runs hooks with the container's file system in reach.
func (h *hooks) insideHooks(ctx context.Context) error {
	if len(h.CreateContainer) == 0 {
		return nil
	}
	bundle, err := os.MkdirTemp("", "kist-hooks-")
	if err != nil {
		return fmt.Errorf("bundle for hooks: %w", err)
	}
	done := make(chan error, 1)
	apart() <- func() (clean bool) {
		home, err := openHome()
		if err != nil {
			done <- err
			return true
		}
		err = h.inside(ctx, bundle, home["mnt"])
		back := home.enter()
		done <- errors.Join(err, back)
		return back == nil
	}
	return errors.Join(<-done, os.Remove(bundle))
}

// home are the namespaces of the runtime, by their names in /proc.
type home map[string]*os.File

var homeKinds = map[string]int{"mnt": unix.CLONE_NEWNS, "net": unix.CLONE_NEWNET, "uts": unix.CLONE_NEWUTS, "ipc": unix.CLONE_NEWIPC}

func openHome() (home, error) {
	h := home{}
	for name := range homeKinds {
		f, err := openNS("thread-self", name)
		if err != nil {
			for _, f := range h {
				_ = f.Close()
			}
			return nil, err
		}
		h[name] = f
	}
	return h, nil
}

// enter moves this thread back.
func (h home) enter() error {
	var errs []error
	for name, f := range h {
		errs = append(errs, enterNS(f, homeKinds[name]), f.Close())
	}
	return errors.Join(errs...)
}

// apart takes work that leaves the runtime's namespaces, for a thread of its own. The work says whether it has come back.
//
// That thread never ends: the end of a thread would kill the processes that it has made and that still wait to be started
// (PR_SET_PDEATHSIG). It is not the process's first one, whose namespaces others take for the process's.
var apart = sync.OnceValue(func() chan<- func() bool {
	work := make(chan func() bool)
	go serveApart(work, nil)
	return work
})

func serveApart(work chan func() bool, begun chan<- struct{}) {
	goruntime.LockOSThread() // never unlocked, but for the first thread
	if unix.Gettid() == unix.Getpid() {
		other := make(chan struct{})
		go serveApart(work, other)
		<-other
		goruntime.UnlockOSThread()
		return
	}
	if begun != nil {
		close(begun)
	}
	for do := range work {
		if !do() {
			go serveApart(work, nil)
			select {} // lost in other namespaces
		}
	}
}

// inside moves this thread into a mount namespace with both file systems, and runs the hooks from there.
func (h *hooks) inside(ctx context.Context, bundle string, host *os.File) error {
	own, err := openNS(strconv.Itoa(h.state.Pid), "mnt")
	if err != nil {
		return err
	}
	defer own.Close()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("prepare for hooks: %w", err)
	}
	tree, unshare, err := cloneTree(own)
	if err != nil {
		return err
	}
	defer tree.Close()
	if err := enterNS(host, unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := h.bundle(bundle, tree); err != nil {
		return err
	}
	for _, name := range []string{"net", "uts", "ipc"} {
		ns, err := openNS(strconv.Itoa(h.state.Pid), name)
		if err == nil {
			err = errors.Join(enterNS(ns, homeKinds[name]), ns.Close())
		}
		if err != nil {
			return err
		}
	}
	was := h.state.Bundle
	h.state.Bundle, h.dir = bundle, bundle
	err = h.run(ctx, specs.StateCreating, h.CreateContainer)
	h.state.Bundle, h.dir = was, ""
	return errors.Join(err, enterNS(own, unix.CLONE_NEWNS), unshare())
}

// cloneTree enters the container's mount namespace and takes a copy of its mounts, which shares with them what is mounted from
// now on. The returned function, called in that namespace, ends that.
func cloneTree(own *os.File) (tree *os.File, unshare func() error, err error) {
	if err := enterNS(own, unix.CLONE_NEWNS); err != nil {
		return nil, nil, err
	}
	set := func(propagation uint64) error {
		for _, p := range insideShared {
			err := unix.MountSetattr(unix.AT_FDCWD, p, 0, &unix.MountAttr{Propagation: propagation})
			// What is no mount here, or is not there, is left alone.
			if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("share the container's mount of %s with hooks: %w", p, err)
			}
		}
		return nil
	}
	if err := set(unix.MS_SHARED); err != nil {
		return nil, nil, err
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/", uint(treeClone|unix.AT_RECURSIVE))
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("copy the container's mounts for hooks: %w", err), set(unix.MS_PRIVATE))
	}
	// A root filesystem that is read-only to the container is not so to hooks.
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
	tree = os.NewFile(uintptr(fd), "rootfs")
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("copy the container's mounts for hooks: %w", err), tree.Close(), set(unix.MS_PRIVATE))
	}
	return tree, func() error { return set(unix.MS_PRIVATE) }, nil
}

// bundle gives this thread a copy of the host's mounts, and puts the bundle there, where only hooks see it.
func (h *hooks) bundle(dir string, tree *os.File) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("mount namespace for hooks: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("mount namespace for hooks: %w", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=711"); err != nil {
		return fmt.Errorf("bundle for hooks: %w", err)
	}
	s := *h.spec
	s.Root = &specs.Root{Path: "rootfs"}
	if h.spec.Root != nil {
		s.Root.Readonly = h.spec.Root.Readonly
	}
	text, err := json.Marshal(&s)
	if err != nil {
		return fmt.Errorf("bundle for hooks: %w", err)
	}
	root := filepath.Join(dir, "rootfs")
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "config.json"), text, 0o600), os.Mkdir(root, 0o755)); err != nil {
		return fmt.Errorf("bundle for hooks: %w", err)
	}
	if err := unix.MoveMount(fdOf(tree), "", unix.AT_FDCWD, root, moveFromEmpty); err != nil {
		return fmt.Errorf("bundle for hooks: %w", err)
	}
	return nil
}

func openNS(process, kind string) (*os.File, error) {
	f, err := os.Open("/proc/" + process + "/ns/" + kind)
	if err != nil {
		return nil, fmt.Errorf("namespace for hooks: %w", err)
	}
	return f, nil
}

func enterNS(ns *os.File, kind int) error {
	if err := unix.Setns(fdOf(ns), kind); err != nil {
		return fmt.Errorf("enter %s for hooks: %w", ns.Name(), err)
	}
	return nil
}
