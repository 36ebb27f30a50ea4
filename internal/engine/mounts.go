package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/undo"
)

// wanted lists the mount points of a container: those of other containers, -v, --mount, and last the volumes that the
// image or the user names without a source, where nothing else is mounted. Two for one place are an error, except that
// what the user writes replaces what --volumes-from brings.
func (e *Engine) wanted(c *docker.Config, h *docker.HostConfig) ([]mountPoint, error) {
	list, err := e.borrowed(h.VolumesFrom)
	if err != nil {
		return nil, err
	}
	own := map[string]bool{}
	add := func(m mountPoint) error {
		if own[m.Target] {
			return invalid("Duplicate mount point: %s", m.Target)
		}
		own[m.Target] = true
		list = slices.DeleteFunc(list, func(o mountPoint) bool { return o.Target == m.Target })
		list = append(list, m)
		return nil
	}
	for target := range h.Tmpfs {
		own[path.Clean(target)] = true
	}
	for _, spec := range h.Binds {
		m, err := parseBind(spec)
		if err != nil {
			return nil, err
		}
		m.Driver = volumeDriver(m, h)
		if err := add(m); err != nil {
			return nil, err
		}
	}
	for _, spec := range h.Mounts {
		m, err := parseMount(spec)
		if err != nil {
			return nil, err
		}
		if err := add(m); err != nil {
			return nil, err
		}
	}
	for target := range c.Volumes {
		m := mountPoint{Type: mount.TypeVolume, Target: target}
		if err := m.clean(); err != nil {
			return nil, err
		}
		m.Driver = volumeDriver(m, h)
		taken := slices.ContainsFunc(list, func(o mountPoint) bool { return o.Target == m.Target })
		if !own[m.Target] && !taken {
			list = append(list, m)
		}
	}
	slices.SortFunc(list, func(a, b mountPoint) int { return byDepth(a.Target, b.Target) })
	return list, nil
}

func volumeDriver(m mountPoint, h *docker.HostConfig) string {
	if m.Type == mount.TypeVolume {
		return h.VolumeDriver
	}
	return ""
}

// byDepth orders targets so that a mount comes before those below it.
func byDepth(a, b string) int {
	return cmp.Or(cmp.Compare(strings.Count(a, "/"), strings.Count(b, "/")), cmp.Compare(a, b))
}

// borrowed are the mount points of the containers named by --volumes-from.
func (e *Engine) borrowed(from []string) ([]mountPoint, error) {
	var list []mountPoint
	for _, spec := range from {
		name, mode, _ := strings.Cut(spec, ":")
		c, err := e.index.find(name)
		if err != nil {
			// Not the class of an unknown image: clients would go and pull.
			return nil, asInvalid(err)
		}
		def, _ := c.look()
		for _, m := range def.Mounts {
			if m.Type == mount.TypeTmpfs {
				continue
			}
			m.Anonymous, m.NoCopy, m.Root = false, true, ""
			if mode != "" {
				m.Mode = mode
				if err := m.applyMode(mode); err != nil {
					return nil, err
				}
			}
			list = slices.DeleteFunc(list, func(o mountPoint) bool { return o.Target == m.Target })
			list = append(list, m)
		}
	}
	return list, nil
}

// ensure makes the volumes and directories that the mount points need, and fills fresh volumes from the image.
func (e *Engine) ensure(ctx context.Context, id string, list []mountPoint, u *undo.Stack) error {
	if slices.ContainsFunc(list, func(m mountPoint) bool { return m.Type == mount.TypeVolume }) {
		u.Push("release volumes", func(context.Context) error { e.cfg.Volumes.Release(id); return nil })
	}
	for i := range list {
		var err error
		switch m := &list[i]; m.Type {
		case mount.TypeBind:
			err = m.checkSource()
		case mount.TypeVolume:
			err = e.ensureVolume(ctx, id, m, u)
		case mount.TypeImage:
			err = e.ensureImage(ctx, fmt.Sprintf("%s%c%d", id, rootMark, i), m, u)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) ensureVolume(ctx context.Context, id string, m *mountPoint, u *undo.Stack) error {
	m.Anonymous = m.Name == ""
	v, fresh, err := e.cfg.Volumes.Ensure(ctx, m.Name, m.Driver, m.labels, m.options)
	if err != nil {
		return err
	}
	if err := e.cfg.Volumes.Use(v.Name, id); err != nil {
		return err
	}
	if m.Anonymous {
		u.Push("remove volume", func(ctx context.Context) error {
			e.cfg.Volumes.Release(id)
			return e.cfg.Volumes.Remove(ctx, v.Name, true)
		})
	}
	m.Name, m.Driver, m.Source = v.Name, v.Driver, v.Mountpoint
	if !fresh || m.NoCopy {
		return nil
	}
	return e.fill(ctx, id, m)
}

// checkSource makes the source of -v if it is missing, and refuses a missing one of --mount.
func (m *mountPoint) checkSource() error {
	_, err := os.Stat(m.Source)
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("bind source: %w: %w", err, errdefs.ErrInvalidArgument)
	case !m.MakeSource:
		return &fault.Error{
			Code: "bind-source-missing", What: "invalid mount config for type \"bind\": bind source path does not exist: " + m.Source,
			Try: "mkdir -p " + m.Source + ", or -v, which makes it", Class: errdefs.ErrInvalidArgument,
		}
	}
	if err := os.MkdirAll(m.Source, 0o755); err != nil { //nolint:gosec // Docker's mode; others must reach into it.
		return fmt.Errorf("make bind source: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return nil
}

func unserved(text string) error { return fmt.Errorf("%s: %w", text, errdefs.ErrNotImplemented) }
