package runstep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/sys"
)

// collect puts up the mounts and the secrets of the environment. Caches come last, one after the other by their keys: who
// waits for one holds nothing that somebody else waits for in another order.
func (s *step) collect(ctx context.Context) error {
	if err := s.secretEnv(ctx); err != nil {
		return err
	}
	var caches []*Mount
	for i := range s.Mounts {
		m := &s.Mounts[i]
		if m == s.root {
			continue
		}
		if m.Dest == "" || !path.IsAbs(m.Dest) && path.Clean("/"+s.Op.Meta.Cwd) == "" {
			return fmt.Errorf("mount without a destination: %w", errdefs.ErrInvalidArgument)
		}
		if m.MountType == pb.MountType_CACHE {
			caches = append(caches, m)
			continue
		}
		if err := s.mount(ctx, m); err != nil {
			return err
		}
	}
	slices.SortStableFunc(caches, func(a, b *Mount) int { return strings.Compare(cacheKey(a), cacheKey(b)) })
	for _, m := range caches {
		if err := s.cacheMount(ctx, m); err != nil {
			return err
		}
	}
	// As they were written: what is mounted over the same place counts last.
	slices.SortStableFunc(s.mounts, func(a, b specs.Mount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	return nil
}

// mount puts up one mount.
func (s *step) mount(ctx context.Context, m *Mount) error {
	switch m.MountType {
	case pb.MountType_BIND:
		return s.bindMount(ctx, m)
	case pb.MountType_TMPFS:
		s.tmpfsMount(m)
		return nil
	case pb.MountType_SECRET:
		return s.secretMount(ctx, m)
	case pb.MountType_SSH:
		return s.sshMount(ctx, m)
	}
	return fmt.Errorf("mount of type %s: %w", m.MountType, errdefs.ErrNotImplemented)
}

// dest is where a mount goes, as the container sees it.
func (s *step) dest(m *Mount) string {
	if path.IsAbs(m.Dest) {
		return path.Clean(m.Dest)
	}
	return path.Join("/", s.Op.Meta.Cwd, m.Dest)
}

// bind adds a bind mount of a source on the host.
func (s *step) bind(m *Mount, source string, options ...string) {
	options = append([]string{"rbind", "rprivate"}, options...)
	if m.Readonly {
		options = append(options, "ro")
	}
	s.mounts = append(s.mounts, specs.Mount{Type: "bind", Source: source, Destination: s.dest(m), Options: options})
}

// bindMount mounts a tree, or a part of one.
func (s *step) bindMount(ctx context.Context, m *Mount) error {
	if l := m.Source.Local; l != nil {
		return s.localMount(ctx, m, l)
	}
	id := s.mountRoot()
	if _, err := s.prepare(ctx, m, id, true); err != nil {
		return err
	}
	root, err := s.r.cfg.Layers.Mount(id)
	if err != nil {
		return err
	}
	s.pushMount(func() error { return closeOnce(root) })
	if root, err = s.place(root); err != nil {
		return err
	}
	return s.selectMount(m, root)
}

func closeOnce(root *sys.Root) error {
	if err := root.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// prepare stacks a mount's layers, with a writable one on top, which the end of the step throws away unless it is committed.
func (s *step) prepare(ctx context.Context, m *Mount, id string, bare bool) (sys.Overlay, error) {
	o, err := s.r.cfg.Layers.Prepare(ctx, id, m.Source.Layers, layer.PrepareOptions{
		Volatile: true, Many: true, Bare: bare, ReadOnly: bare && m.Readonly,
	})
	if err != nil {
		return o, err
	}
	s.roots[m] = id
	s.push(func(ctx context.Context) error {
		if _, ours := s.roots[m]; !ours {
			return nil // It has become a layer.
		}
		return s.r.cfg.Layers.Remove(ctx, id)
	})
	return o, nil
}

// selectMount mounts what the selector names in a mounted tree.
func (s *step) selectMount(m *Mount, root *sys.Root, options ...string) error {
	f, err := root.Open(path.Join("/", m.Selector), unix.O_PATH, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return &fault.Error{
				Code: "mount-source-missing", What: "cannot mount " + m.Selector + " at " + m.Dest,
				Cause: "there is no " + m.Selector + " in what it is to be mounted from",
				Try:   "check the source= of this --mount", Class: errdefs.ErrNotFound, Err: err,
			}
		}
		return fmt.Errorf("mount %s at %s: %w", m.Selector, m.Dest, err)
	}
	s.pushMount(func() error { return f.Close() })
	s.bind(m, descriptorPath(f), options...)
	return nil
}

// descriptorPath is how the keeper finds what is open here.
func descriptorPath(f *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()) }

// place gives a detached mount a place in the step's directory on kernels that copy no mount that has none (before 6.15).
func (s *step) place(root *sys.Root) (*sys.Root, error) {
	if !s.r.placed {
		return root, nil
	}
	at := filepath.Join(s.dir, s.name())
	if err := os.Mkdir(at, 0o700); err != nil {
		return nil, err
	}
	err := unix.MoveMount(root.Fd(), "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH)
	if err != nil {
		return nil, fmt.Errorf("mount for build step: %w", err)
	}
	s.pushMount(func() error { return unix.Unmount(at, unix.MNT_DETACH) })
	placed, err := sys.OpenRoot(at)
	if err != nil {
		return nil, err
	}
	s.pushMount(func() error { return errors.Join(closeOnce(root), closeOnce(placed)) })
	return placed, nil
}

// copiesDetached says whether this kernel copies mounts that are attached nowhere.
func copiesDetached() bool {
	f, err := memoryFS("4k")
	if err != nil {
		return false
	}
	defer f.Close()
	fd, err := unix.OpenTree(int(f.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return false
	}
	_ = unix.Close(fd)
	return true
}

// memoryFS makes a file system in memory that is attached nowhere, and that is not swapped out where the kernel can help it.
func memoryFS(size string) (*os.File, error) {
	fsfd, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen tmpfs: %w", err)
	}
	defer func() { _ = unix.Close(fsfd) }()
	for _, kv := range [][2]string{{"source", "kist"}, {"size", size}, {"mode", "0711"}} {
		if err := unix.FsconfigSetString(fsfd, kv[0], kv[1]); err != nil {
			return nil, fmt.Errorf("configure tmpfs: %w", err)
		}
	}
	_ = unix.FsconfigSetFlag(fsfd, "noswap") // since Linux 6.4
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return nil, fmt.Errorf("create tmpfs: %w", err)
	}
	fd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsmount tmpfs: %w", err)
	}
	return os.NewFile(uintptr(fd), "tmpfs"), nil
}

// writesLayer says whether a mount's output is a layer.
func writesLayer(m *Mount) bool { return m.MountType == pb.MountType_BIND && m.Source.Local == nil }
