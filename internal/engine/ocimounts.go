package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/mount"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/spec"
	"github.com/kistdev/kist/internal/undo"
)

// held are descriptors that must stay open until the container's process has mounted what they stand for.
type held []*os.File

func (h held) close() {
	for _, f := range h {
		_ = f.Close()
	}
}

// mountsOf turns the mount points of d into the runtime's mounts, parents first. What must be mounted on the host for
// that is, and u unmounts it. Sources inside a volume, which another container may be changing at this moment, are opened
// here and named by descriptor, so that no exchanged link leads out of the volume.
func (e *Engine) mountsOf(ctx context.Context, d *definition, user spec.User, u *undo.Stack) (list []specs.Mount, open held, err error) {
	u.Push("unmount volumes and images", func(context.Context) error { return e.unmountAll(d) })
	for i := range d.Mounts {
		m := &d.Mounts[i]
		if m.Type == mount.TypeTmpfs {
			list = append(list, specs.Mount{
				Type: "tmpfs", Source: "tmpfs", Destination: m.Target, Options: readOnly(m.Tmpfs, m.ReadOnly),
			})
			continue
		}
		one, f, err := e.bindOf(ctx, d.ID, m, user)
		if f != nil {
			open = append(open, f)
		}
		if err != nil {
			open.close()
			return nil, nil, err
		}
		list = append(list, one)
	}
	secrets, err := e.secretMounts(d, user)
	if err != nil {
		open.close()
		return nil, nil, err
	}
	list = append(list, secrets...)
	slices.SortStableFunc(list, func(a, b specs.Mount) int { return byDepth(a.Destination, b.Destination) })
	return list, open, nil
}

// bindOf is the mount of something that is on the host, with the descriptor that its source is named by, if it is.
func (e *Engine) bindOf(ctx context.Context, id string, m *mountPoint, user spec.User) (one specs.Mount, open *os.File, err error) {
	source := m.Source
	switch m.Type {
	case mount.TypeBind:
		err = m.checkSource()
	case mount.TypeVolume:
		source, err = e.cfg.Volumes.Mount(ctx, m.Name, id)
	case mount.TypeImage:
		source, err = e.mountImage(id, m)
	}
	if err != nil {
		return one, nil, err
	}
	if m.Subpath != "" {
		if open, err = openBeneath(source, m.Subpath); err != nil {
			return one, nil, fmt.Errorf("%s %s has no %s: %w: %w", m.Type, m.Name, m.Subpath, err, errdefs.ErrInvalidArgument)
		}
		source = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), open.Fd())
	}
	one = specs.Mount{Type: "bind", Source: source, Destination: m.Target, Options: m.bindOptions()}
	if m.IDMap {
		err = tradeOwners(&one, source, user)
	}
	return one, open, err
}

// tradeOwners has the owner of the source and the container's user trade places in the mount. All other ids stay.
func tradeOwners(m *specs.Mount, source string, user spec.User) error {
	var st unix.Stat_t
	if err := unix.Stat(source, &st); err != nil {
		return fmt.Errorf("owner of %s: %w", source, err)
	}
	if st.Uid == user.UID && st.Gid == user.GID {
		return nil
	}
	m.UIDMappings, m.GIDMappings = swapped(st.Uid, user.UID), swapped(st.Gid, user.GID)
	return nil
}

// swapped maps all ids to themselves but two, which are each other's.
func swapped(a, b uint32) []specs.LinuxIDMapping {
	const all = 1<<32 - 1 // the last number is no id
	low, high := min(a, b), max(a, b)
	var list []specs.LinuxIDMapping
	add := func(from, to, size uint32) {
		if size > 0 {
			list = append(list, specs.LinuxIDMapping{ContainerID: from, HostID: to, Size: size})
		}
	}
	if low == high {
		add(0, 0, all)
		return list
	}
	add(0, 0, low)
	add(low, high, 1)
	add(low+1, low+1, high-low-1)
	add(high, low, 1)
	add(high+1, high+1, all-high-1)
	return list
}

// unmountAll takes down what was mounted on the host for the container's mounts.
func (e *Engine) unmountAll(d *definition) error {
	var errs []error
	has := func(t mount.Type) bool {
		return slices.ContainsFunc(d.Mounts, func(m mountPoint) bool { return m.Type == t })
	}
	if has(mount.TypeVolume) {
		errs = append(errs, e.cfg.Volumes.Unmount(d.ID))
	}
	if has(mount.TypeImage) {
		errs = append(errs, unmountImages(e.imageDir(d.ID)))
	}
	return errors.Join(errs...)
}

func (m *mountPoint) bindOptions() []string {
	options := []string{"rbind"}
	if m.NonRecursive {
		options[0] = "bind"
	}
	propagation := m.Propagation
	if propagation == "" {
		propagation = mount.PropagationRPrivate
	}
	options = append(options, string(propagation))
	switch {
	case !m.ReadOnly:
	case m.NonRecursive || m.ReadOnlyNonRecursive:
		options = append(options, "ro")
	default:
		options = append(options, "rro")
	}
	return options
}

func readOnly(options []string, ro bool) []string {
	if ro {
		return append(slices.Clip(options), "ro")
	}
	return options
}

// openBeneath opens what name means inside dir; no link and no ".." leads out of it.
func openBeneath(dir, name string) (*os.File, error) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(root) }()
	fd, err := unix.Openat2(root, name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}
