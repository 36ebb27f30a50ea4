package engine

import (
	"fmt"
	"os"
	"slices"

	"github.com/moby/moby/api/types/mount"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// held are descriptors that must stay open until the container's process has mounted what they stand for.
type held []*os.File

func (h held) close() {
	for _, f := range h {
		_ = f.Close()
	}
}

// mountsOf turns the mount points of d into the runtime's mounts, parents first. Sources inside a volume, which another
// container may be changing at this moment, are opened here and named by descriptor, so that no exchanged link leads out
// of the volume.
func mountsOf(d *definition) (list []specs.Mount, open held, err error) {
	for i := range d.Mounts {
		m := &d.Mounts[i]
		switch m.Type {
		case mount.TypeTmpfs:
			list = append(list, specs.Mount{
				Type: "tmpfs", Source: "tmpfs", Destination: m.Target, Options: readOnly(m.Tmpfs, m.ReadOnly),
			})
			continue
		case mount.TypeBind:
			if err := m.checkSource(); err != nil {
				open.close()
				return nil, nil, err
			}
		}
		source := m.Source
		if m.Subpath != "" {
			f, err := openBeneath(m.Source, m.Subpath)
			if err != nil {
				open.close()
				return nil, nil, fmt.Errorf("volume %s has no %s: %w", m.Name, m.Subpath, err)
			}
			open = append(open, f)
			source = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
		}
		list = append(list, specs.Mount{Type: "bind", Source: source, Destination: m.Target, Options: m.bindOptions()})
	}
	slices.SortStableFunc(list, func(a, b specs.Mount) int { return byDepth(a.Destination, b.Destination) })
	return list, open, nil
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
