package engine

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/cgroup"
	img "github.com/kistdev/kist/internal/image"
)

// CommitOptions for Commit.
type CommitOptions struct {
	Ref, Author, Comment string
	Changes              []string
	Pause                bool
	Config               *docker.Config // overrides, may be nil
}

// Changes lists what the container changed in its root filesystem.
func (e *Engine) Changes(ctx context.Context, name string) ([]docker.FilesystemChange, error) {
	c, err := e.index.find(name)
	if err != nil {
		return nil, err
	}
	return e.cfg.Layers.Changes(ctx, c.id)
}

// Export writes the container's root filesystem, without what is mounted in it, as a tar.
func (e *Engine) Export(ctx context.Context, name string, begin func() (io.Writer, error)) error {
	c, err := e.index.find(name)
	if err != nil {
		return err
	}
	v, err := e.open(c, "/")
	if err != nil {
		return err
	}
	defer v.close()
	w, err := begin()
	if err != nil {
		return err
	}
	err = archive.Tar(ctx, v.root, "/", w, archive.TarOptions{NoRoot: true, OneFilesystem: true})
	if err != nil {
		return err
	}
	e.emit(c, events.ActionExport, nil)
	return nil
}

// Commit makes an image of the container's changes. With Pause its processes stand still meanwhile.
func (e *Engine) Commit(ctx context.Context, name string, o CommitOptions) (id string, err error) {
	c, err := e.index.find(name)
	if err != nil {
		return "", err
	}
	d, _ := c.look()
	config, err := committed(d.Config, o)
	if err != nil {
		return "", err
	}
	if err := c.op.acquire(ctx); err != nil {
		return "", err
	}
	defer c.op.release()
	if _, st := c.look(); o.Pause && st.Phase == running {
		g, err := cgroup.Load(st.Cgroup)
		if err != nil {
			return "", err
		}
		if err := g.Freeze(ctx); err != nil {
			return "", errors.Join(err, g.Thaw(context.WithoutCancel(ctx)))
		}
		defer func() { err = errors.Join(err, g.Thaw(context.WithoutCancel(ctx))) }()
	}
	image, err := e.cfg.Images.Commit(ctx, img.CommitOptions{
		Parent: d.Image, Ref: o.Ref, Author: o.Author, Comment: o.Comment, Created: time.Now().UTC(), Config: *config,
		CreatedBy: strings.Join(d.Config.Cmd, " "),
		Diff:      func(w io.Writer) error { return e.cfg.Layers.Diff(ctx, d.ID, w) },
	})
	if err != nil {
		return "", err
	}
	e.emit(c, events.ActionCommit, map[string]string{"comment": o.Comment, "imageID": image.ID.String(), "imageRef": o.Ref})
	return image.ID.String(), nil
}

// committed is the image's configuration: the container's, with the overrides and then the changes on top.
func committed(c *docker.Config, o CommitOptions) (*dockerspec.DockerOCIImageConfig, error) {
	own := imageConfig(c)
	if o.Config != nil {
		merged, err := merge(o.Config, own)
		if err != nil {
			return nil, err
		}
		own = imageConfig(merged)
	}
	if err := img.ApplyChanges(own, o.Changes); err != nil {
		return nil, err
	}
	return own, nil
}

// imageConfig is the part of a container's configuration that an image has.
func imageConfig(c *docker.Config) *dockerspec.DockerOCIImageConfig {
	i := &dockerspec.DockerOCIImageConfig{}
	i.User, i.Env, i.Entrypoint, i.Cmd, i.Volumes = c.User, c.Env, c.Entrypoint, c.Cmd, c.Volumes
	i.WorkingDir, i.Labels, i.StopSignal = c.WorkingDir, c.Labels, c.StopSignal
	i.Healthcheck, i.OnBuild, i.Shell = c.Healthcheck, c.OnBuild, c.Shell
	for p := range c.ExposedPorts {
		if i.ExposedPorts == nil {
			i.ExposedPorts = map[string]struct{}{}
		}
		i.ExposedPorts[p.String()] = struct{}{}
	}
	return i
}
