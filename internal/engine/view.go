package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/mount"

	"github.com/kistdev/kist/internal/sys"
)

// view is a container's filesystem as it sees it itself, at one path.
type view struct {
	root *sys.Root
	// name is the path inside root.
	name     string
	readOnly bool
	// release, when set, ends what was put up for the view.
	release func()
}

func (v *view) close() {
	_ = v.root.Close()
	if v.release != nil {
		v.release()
	}
}

// open gives the view at name: through the first process of a container that runs; else through its root filesystem, or
// what was mounted over it there.
func (e *Engine) open(c *container, name string) (*view, error) {
	d, st := c.look()
	if st.Phase.alive() {
		if v, err := e.openLive(c, st.PID, name); err == nil {
			return v, nil
		} else if _, now := c.look(); now.PID == st.PID {
			return nil, err
		}
	}
	root, err := e.cfg.Layers.OpenRoot(c.id)
	if err != nil {
		return nil, err
	}
	v := &view{root: root, name: name, readOnly: d.HostConfig.ReadonlyRootfs}
	m, rest := d.mountAt(trueName(root, name))
	if m == nil {
		return v, nil
	}
	v.close()
	return e.openMounted(m, rest)
}

// openMounted is the view into something that is mounted in a container which does not run.
func (e *Engine) openMounted(m *mountPoint, rest string) (*view, error) {
	v := &view{readOnly: m.ReadOnly}
	var err error
	switch m.Type {
	case mount.TypeImage:
		if v.root, err = e.cfg.Layers.OpenRoot(m.Root); err != nil {
			return nil, err
		}
		v.name = path.Join("/", m.Subpath, rest)
		return v, nil
	case mount.TypeVolume:
		user := "copy " + newID()
		if _, err := e.cfg.Volumes.Mount(context.Background(), m.Name, user); err != nil {
			return nil, err
		}
		v.release = func() {
			if err := e.cfg.Volumes.Unmount(user); err != nil {
				slog.Warn("unmount volume", "volume", m.Name, "error", err)
			}
		}
	}
	if v.root, v.name, err = m.open(rest); err != nil {
		if v.release != nil {
			v.release()
		}
		return nil, err
	}
	return v, nil
}

// open opens what is mounted, and gives the path in it. A mount of a single file is seen through the file's directory.
func (m *mountPoint) open(rest string) (*sys.Root, string, error) {
	if m.Source == "" {
		return nil, "", fmt.Errorf("%s is not a directory of the host: %w", m.Target, errdefs.ErrNotFound)
	}
	if m.Subpath != "" {
		f, err := openBeneath(m.Source, m.Subpath)
		if err != nil {
			return nil, "", fmt.Errorf("volume %s has no %s: %w", m.Name, m.Subpath, err)
		}
		return sys.NewRoot(f), rest, nil
	}
	root, err := sys.OpenRoot(m.Source)
	if errors.Is(err, unix.ENOTDIR) && rest == "/" {
		root, err = sys.OpenRoot(path.Dir(m.Source))
		rest = path.Base(m.Source)
	}
	if err != nil {
		return nil, "", err
	}
	return root, rest, nil
}

// openLive opens the root of a process. The process is still ours after its root was opened, so the root is.
func (e *Engine) openLive(c *container, pid int, name string) (*view, error) {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the container's root: %w", err)
	}
	v := &view{root: sys.NewRoot(os.NewFile(uintptr(fd), "root")), name: name}
	pidfd, ok := e.tasks.PIDFD(c.id)
	if !ok || unix.PidfdSendSignal(int(pidfd.Fd()), 0, nil, 0) != nil {
		v.close()
		return nil, notRunning(c)
	}
	return v, nil
}

// trueName follows the links in the directory part of name, which need not exist.
func trueName(root *sys.Root, name string) string {
	clean := path.Clean("/" + name)
	if strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.") {
		if full, err := root.Resolve(clean); err == nil {
			return full
		}
	}
	if dir, err := root.Resolve(path.Dir(clean)); err == nil {
		return path.Join(dir, path.Base(clean))
	}
	return clean
}

// mountAt finds what is mounted over name, and the path below it; nil for the root filesystem itself.
func (d *definition) mountAt(name string) (*mountPoint, string) {
	var best *mountPoint
	for i := range d.Mounts {
		m := &d.Mounts[i]
		if m.Type == mount.TypeTmpfs || name != m.Target && !strings.HasPrefix(name, m.Target+"/") {
			continue
		}
		if best == nil || len(m.Target) > len(best.Target) {
			best = m
		}
	}
	if best == nil {
		return nil, name
	}
	return best, "/" + strings.TrimPrefix(strings.TrimPrefix(name, best.Target), "/")
}

// fill copies what the image has at the volume's place into the volume.
func (e *Engine) fill(ctx context.Context, id string, m *mountPoint) error {
	root, err := e.cfg.Layers.OpenRoot(id)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return e.cfg.Volumes.CopyUp(ctx, m.Name, id, root, m.Target)
}
