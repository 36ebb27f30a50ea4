package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	docker "github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/spec"
	"github.com/kistdev/kist/internal/undo"
)

// pinModes replaces the names of other containers in the modes by their ids, which do not change.
func (e *Engine) pinModes(h *docker.HostConfig) error {
	pin := func(ref string) (string, error) {
		c, err := e.index.find(ref)
		if err != nil {
			// Not the class of an unknown image: clients would go and pull.
			return "", asInvalid(err)
		}
		return "container:" + c.id, nil
	}
	if h.NetworkMode.IsContainer() {
		mode, err := pin(h.NetworkMode.ConnectedContainer())
		if err != nil {
			return err
		}
		h.NetworkMode = docker.NetworkMode(mode)
	}
	if h.PidMode.IsContainer() {
		mode, err := pin(h.PidMode.Container())
		if err != nil {
			return err
		}
		h.PidMode = docker.PidMode(mode)
	}
	if h.IpcMode.IsContainer() {
		mode, err := pin(h.IpcMode.Container())
		if err != nil {
			return err
		}
		h.IpcMode = docker.IpcMode(mode)
	}
	return nil
}

// joinNamespaces names the namespaces of other containers that this one joins.
func (e *Engine) joinNamespaces(d *definition, in *spec.Input) error {
	h := d.HostConfig
	for _, j := range []struct {
		kind      specs.LinuxNamespaceType
		file, ref string
		shares    bool
	}{
		{specs.NetworkNamespace, "net", h.NetworkMode.ConnectedContainer(), h.NetworkMode.IsContainer()},
		{specs.PIDNamespace, "pid", h.PidMode.Container(), h.PidMode.IsContainer()},
		{specs.IPCNamespace, "ipc", h.IpcMode.Container(), h.IpcMode.IsContainer()},
	} {
		if !j.shares {
			continue
		}
		other, pid, err := e.partner(j.ref, j.file)
		if err != nil {
			return err
		}
		if in.Join == nil {
			in.Join = map[specs.LinuxNamespaceType]string{}
		}
		in.Join[j.kind] = fmt.Sprintf("/proc/%d/ns/%s", pid, j.file)
		if j.kind == specs.NetworkNamespace { // Docker's containers share the name with the network.
			config := *in.Config
			config.Hostname, config.Domainname = other.Config.Hostname, other.Config.Domainname
			in.Config = &config
		}
	}
	return nil
}

// partner finds the running container whose namespace is to be joined.
func (e *Engine) partner(ref, what string) (*definition, int, error) {
	c, err := e.index.find(ref)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot join the %s namespace: %w", what, err)
	}
	d, st := c.look()
	if !st.Phase.alive() {
		return nil, 0, fmt.Errorf("cannot join %s namespace of a non running container: %s: %w", what, c.id, errdefs.ErrConflict)
	}
	if what == "ipc" && !d.HostConfig.IpcMode.IsShareable() && !d.HostConfig.IpcMode.IsHost() {
		return nil, 0, fmt.Errorf("cannot join IPC of a container with non-shareable IPC (hint: use IpcMode:shareable for the donor container): %s: %w", c.id, errdefs.ErrConflict)
	}
	return d, st.PID, nil
}

// shm returns the mount of a shared-memory directory that is not the container's alone: the host's, another container's,
// or its own if others may join it, which is then mounted on the host.
func (e *Engine) shm(d *definition, u *undo.Stack) ([]specs.Mount, error) {
	mode := d.HostConfig.IpcMode
	dir := e.shmDir(d.ID)
	switch {
	case mode.IsHost():
		dir = "/dev/shm"
	case mode.IsContainer():
		other, err := e.index.find(mode.Container())
		if err != nil {
			return nil, err
		}
		if o, _ := other.look(); o.HostConfig.IpcMode.IsHost() {
			dir = "/dev/shm"
		} else {
			dir = e.shmDir(other.id)
		}
	case mode.IsShareable():
		if err := mountShm(dir, d.HostConfig.ShmSize); err != nil {
			return nil, err
		}
		u.Push("unmount shm", func(context.Context) error { return unmountShm(dir) })
	default:
		return nil, nil
	}
	return []specs.Mount{{
		Type: "bind", Source: dir, Destination: "/dev/shm", Options: []string{"rbind", "rprivate"},
	}}, nil
}

func (e *Engine) shmDir(id string) string { return filepath.Join(e.cfg.ExecRoot, "shm", id) }

func mountShm(dir string, size int64) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("shm", dir, "tmpfs", flags, fmt.Sprintf("mode=1777,size=%d", size)); err != nil {
		return fmt.Errorf("mount shared memory: %w", err)
	}
	return nil
}

// unmountShm takes it down; one that is not there is no error.
func unmountShm(dir string) error {
	err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return fmt.Errorf("unmount shared memory: %w", err)
	}
	if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}
