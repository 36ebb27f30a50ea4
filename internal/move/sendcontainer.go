package move

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/kistdev/kist/internal/engine"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/image"
	"github.com/kistdev/kist/internal/movemsg"
	"github.com/kistdev/kist/internal/undo"
)

// moveContainer moves a container: it is looked at and its image sent while it runs, then it is stopped, its volumes and changes
// are sent, and the other daemon starts it. Only when that has been said is it removed here; if anything fails before, it goes on.
func (s *sending) moveContainer(ctx context.Context, req *movemsg.Request) (result *movemsg.Result, err error) {
	c, err := s.Containers.Inspect(ctx, req.Name, false)
	if err != nil {
		return nil, err
	}
	plan, volumes, err := s.plan(ctx, req, c)
	if err != nil {
		return nil, err
	}
	plan.Check = true
	if err := s.say(ctx, &message{Container: plan}); err != nil {
		return nil, err
	}
	if _, err := s.done(ctx); err != nil {
		return nil, err
	}
	if err := s.containerImage(ctx, c); err != nil {
		return nil, err
	}
	var u undo.Stack
	defer func() {
		if uerr := u.Unwind(ctx); uerr != nil {
			err = errors.Join(err, uerr)
		}
	}()
	running := c.State.Running || c.State.Restarting
	if running {
		s.note("stopping " + c.Name[1:])
		if err := s.Containers.Stop(ctx, c.ID, engine.StopOptions{}); err != nil && !errdefs.IsNotModified(err) {
			return nil, err
		}
		u.Push("start the container again", func(ctx context.Context) error { return s.Containers.Start(ctx, c.ID) })
	}
	for _, v := range volumes {
		if err := s.volume(ctx, v, v, req.Replace); err != nil {
			return nil, err
		}
	}
	plan.Check, plan.Start, plan.Volumes = false, running, volumes
	d, err := s.create(ctx, c.ID, plan, &u)
	if err != nil {
		return nil, err
	}
	r := &movemsg.Result{ID: d.ID, Running: d.Running}
	if req.Keep {
		return r, nil // The undo stack starts it again.
	}
	u.Release()
	if err := s.Containers.Remove(ctx, c.ID, engine.RemoveOptions{Volumes: true}); err != nil {
		return nil, fmt.Errorf("it is there, but cannot be removed here: %w", err)
	}
	r.Gone = true
	for _, v := range volumes {
		if _, err := s.Volumes.Inspect(ctx, v); err == nil {
			r.Left = append(r.Left, v)
		}
	}
	return r, nil
}

// create sends the container itself. From when it has been sent until the other daemon answers nobody here knows whether it
// runs there: it is not started here then.
func (s *sending) create(ctx context.Context, id string, plan *containerPlan, u *undo.Stack) (*done, error) {
	if err := s.say(ctx, &message{Container: plan}); err != nil {
		return nil, err
	}
	open := func(ctx context.Context) (io.ReadCloser, error) {
		return piped(ctx, func(ctx context.Context, w io.Writer) error { return s.Layers.Diff(ctx, id, w) }), nil
	}
	size, err := s.Layers.Usage(id)
	if err != nil {
		return nil, err
	}
	if err := s.tar(ctx, "the container's changes", size, open); err != nil {
		return nil, err
	}
	d, err := s.done(ctx)
	if err == nil || isThere(err) || !plan.Start {
		return d, err
	}
	u.Release()
	return nil, &fault.Error{
		Code: "move-unknown-end", What: "the connection broke while the other daemon was starting the container",
		Cause: "whether it runs there is not known, so it was not started here again: " + err.Error(), Class: errdefs.ErrUnavailable,
		Try: "look there; if it does not run, kist start " + plan.Name + " here and move it again", Err: err,
	}
}

// containerImage sends the container's image, by the name that the container knows it by if that is still the image's.
func (s *sending) containerImage(ctx context.Context, c *engine.Inspection) error {
	ref := c.Image
	names := []image.MovedName{}
	if img, err := s.Images.Get(ctx, c.Config.Image); err == nil && img.ID.String() == c.Image {
		ref, names = c.Config.Image, nil
	}
	_, err := s.image(ctx, ref, names, true, nil)
	return err
}

// plan describes the container to the other daemon, and lists the volumes that go with it.
func (s *sending) plan(ctx context.Context, req *movemsg.Request, c *engine.Inspection) (*containerPlan, []string, error) {
	if err := movable(req, c); err != nil {
		return nil, nil, err
	}
	img, err := s.Images.Get(ctx, c.Image)
	if err != nil {
		return nil, nil, err
	}
	config, host := *c.Config, *c.HostConfig
	p := &containerPlan{Name: strings.TrimPrefix(c.Name, "/"), Image: c.Image, OS: img.Config.OS, Arch: img.Config.Architecture}
	if req.NewName != "" {
		p.Name = req.NewName
	}
	if config.Hostname == c.ID[:min(12, len(c.ID))] {
		config.Hostname = "" // It is that of the new id there.
	}
	volumes := s.volumesOf(c, &host)
	p.Request = docker.CreateRequest{Config: &config, HostConfig: &host}
	if p.Request.NetworkingConfig, p.Networks, err = s.networksOf(ctx, c); err != nil {
		return nil, nil, err
	}
	return p, volumes, nil
}

// movable refuses containers that would not be themselves elsewhere.
func movable(req *movemsg.Request, c *engine.Inspection) error {
	name := strings.TrimPrefix(c.Name, "/")
	if c.HostConfig.AutoRemove {
		return &fault.Error{
			Code: "move-auto-remove", What: "container " + name + " cannot be moved", Class: errdefs.ErrFailedPrecondition,
			Cause: "it was started with --rm, so it is gone as soon as it is stopped", Try: "kist move its image, and run it there",
		}
	}
	if c.State.Paused {
		return fmt.Errorf("container %s is paused: unpause it first: %w", name, errdefs.ErrConflict)
	}
	if req.KeepBinds {
		return nil
	}
	for _, m := range c.Mounts {
		if m.Type == mount.TypeBind {
			return &fault.Error{
				Code: "move-bind-mount", What: "container " + name + " cannot be moved", Class: errdefs.ErrFailedPrecondition,
				Cause: "it uses " + m.Source + " of this host, which does not go with it",
				Try:   "--keep-binds, if the other host has it too; or put the files into a volume",
			}
		}
	}
	return nil
}

// volumesOf lists the container's volumes, and has the configuration name those that it did not.
func (s *sending) volumesOf(c *engine.Inspection, host *docker.HostConfig) []string {
	var list []string
	host.VolumesFrom = nil
	host.Mounts = slices.Clone(host.Mounts)
	for _, m := range c.Mounts {
		if m.Type != mount.TypeVolume || m.Name == "" {
			continue
		}
		if !slices.Contains(list, m.Name) {
			list = append(list, m.Name)
		}
		if nameMount(host, &m) {
			continue
		}
		bind := m.Name + ":" + m.Destination
		if m.Mode != "" {
			bind += ":" + m.Mode
		} else if !m.RW {
			bind += ":ro"
		}
		if !slices.ContainsFunc(host.Binds, func(b string) bool { return mountsAt(b, m.Destination) }) {
			host.Binds = append(slices.Clone(host.Binds), bind)
		}
	}
	return list
}

// nameMount names the volume in the --mount that it belongs to, if there is one.
func nameMount(host *docker.HostConfig, m *docker.MountPoint) bool {
	for i := range host.Mounts {
		if host.Mounts[i].Target == m.Destination {
			host.Mounts[i].Source = m.Name
			return true
		}
	}
	return false
}

// mountsAt says whether a -v is about a place in the container.
func mountsAt(bind, target string) bool {
	parts := strings.Split(bind, ":")
	return len(parts) > 1 && parts[1] == target
}
