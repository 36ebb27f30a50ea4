package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/containerd/errdefs"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/fault"
	img "github.com/kistdev/kist/internal/image"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/spec"
	"github.com/kistdev/kist/internal/undo"
)

// Create makes a container: a root filesystem, its volumes, and one row. An image that is not here is an
// errdefs.ErrNotFound, on which docker's clients pull it and come again.
func (e *Engine) Create(ctx context.Context, name string, platform *ocispec.Platform, r docker.CreateRequest) (docker.CreateResponse, error) {
	return e.create(ctx, name, platform, r, contents{})
}

// contents are what a container has from the start, beside what its image and its configuration say.
type contents struct {
	changes io.Reader // the tar of a writable layer, or nil
	secrets []Secret
}

// CreateFilled is Create for a container that has changes from the start: changes, if it is not nil, is the tar of a writable
// layer, which is in the container's before the container is there.
func (e *Engine) CreateFilled(ctx context.Context, name string, platform *ocispec.Platform, r docker.CreateRequest, changes io.Reader) (docker.CreateResponse, error) {
	return e.create(ctx, name, platform, r, contents{changes: changes})
}

func (e *Engine) create(ctx context.Context, name string, platform *ocispec.Platform, r docker.CreateRequest, with contents) (docker.CreateResponse, error) {
	if r.Config == nil {
		return docker.CreateResponse{}, invalid("config cannot be empty in order to create a container")
	}
	d, warnings, err := e.define(ctx, name, platform, r)
	if err != nil {
		return docker.CreateResponse{}, err
	}
	if err := checkSecrets(with.secrets, d.Mounts); err != nil {
		return docker.CreateResponse{}, err
	}
	d.Secrets = withoutValues(with.secrets)
	c := newContainer(d, state{Phase: created})
	if err := e.establish(ctx, c, with); err != nil {
		return docker.CreateResponse{}, err
	}
	e.emit(c, events.ActionCreate, nil)
	return docker.CreateResponse{ID: c.id, Warnings: warnings}, nil
}

// define checks the request and completes it with the image's part and the defaults. It has no effects.
func (e *Engine) define(ctx context.Context, name string, platform *ocispec.Platform, r docker.CreateRequest) (*definition, []string, error) {
	if name == "" {
		name = newName(e.index.named)
	}
	name, err := checkName(name)
	if err != nil {
		return nil, nil, err
	}
	image, err := e.image(ctx, r.Image, platform)
	if err != nil {
		return nil, nil, err
	}
	config, err := merge(r.Config, &image.Config.Config)
	if err != nil {
		return nil, nil, err
	}
	host := e.complete(r.HostConfig)
	if err := validate(config, host); err != nil {
		return nil, nil, err
	}
	if err := checkDeviceRequests(host.DeviceRequests); err != nil {
		return nil, nil, err
	}
	if err := e.pinModes(host); err != nil {
		return nil, nil, err
	}
	warnings, err := spec.Validate(config, host, e.host)
	if err != nil {
		return nil, nil, err
	}
	id := newID()
	config.Hostname = e.hostnameOf(id, config, host)
	d := &definition{
		ID: id, Name: name, Created: time.Now().UTC(), Config: config, HostConfig: host,
		Image: image.ID, Manifest: &image.Manifest, Platform: image.Config.OS, Arch: image.Config.Architecture,
	}
	if d.Endpoints, err = e.endpoints(host, r.NetworkingConfig); err != nil {
		return nil, nil, err
	}
	if err := e.link(name, host, d.Endpoints); err != nil {
		return nil, nil, err
	}
	if d.Mounts, err = e.wanted(config, host); err != nil {
		return nil, nil, err
	}
	if arch := image.Config.Architecture; platform == nil && arch != "" && arch != runtime.GOARCH {
		warnings = append(warnings, fmt.Sprintf("The requested image's platform (%s/%s) does not match the detected host platform (linux/%s) "+
			"and no specific platform was requested", image.Config.OS, arch, runtime.GOARCH))
	}
	return d, warnings, nil
}

// image resolves the image, for the platform if one is asked for.
func (e *Engine) image(ctx context.Context, ref string, platform *ocispec.Platform) (*img.Image, error) {
	if ref == "" {
		return nil, invalid("invalid reference format")
	}
	image, err := e.cfg.Images.For(ctx, ref, platform)
	if known, ok := fault.As(err); ok && known.Code == "platform-not-available" {
		return nil, &fault.Error{
			Code: "no-such-platform",
			What: fmt.Sprintf("image with reference %s was found but does not provide the specified platform (%s)", ref, platformName(platform)),
			// Not found, so that clients pull the other platform's image.
			Cause: known.Cause, Try: "kist pull --platform " + platformName(platform) + " " + ref, Class: errdefs.ErrNotFound,
		}
	}
	if errdefs.IsNotFound(err) {
		f := &fault.Error{Code: "no-such-image", What: "No such image: " + withTag(ref), Class: errdefs.ErrNotFound}
		if known, ok := fault.As(err); ok {
			f.Cause, f.Try = known.Cause, known.Try
		}
		return nil, f
	}
	return image, err
}

func platformName(p *ocispec.Platform) string {
	name := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		name += "/" + p.Variant
	}
	return name
}

// establish makes everything of the container that outlives this call, all or nothing.
func (e *Engine) establish(ctx context.Context, c *container, with contents) (err error) {
	d := c.def
	if err := c.op.acquire(ctx); err != nil {
		return err
	}
	defer c.op.release() // After the unwinding: who waits for the name looks when it is free.
	var u undo.Stack
	defer func() {
		if failed := u.Unwind(ctx); failed != nil {
			err = errors.Join(err, failed)
		}
	}()
	// From here on the image is in use.
	c.unmade = true // Nobody else knows it.
	if err := e.claim(ctx, d.Name, func() error { return e.index.add(c) }); err != nil {
		return err
	}
	u.Push("forget name", func(context.Context) error {
		e.index.remove(c, d.Name)
		_, err := c.enter(removing, nil) // For those who have found it, and wait.
		return err
	})

	image, err := e.cfg.Images.Get(ctx, d.Image.String())
	if err != nil {
		return err
	}
	_, err = e.cfg.Layers.Prepare(ctx, c.id, image.Layers, layer.PrepareOptions{Volatile: d.HostConfig.AutoRemove})
	if err != nil {
		return err
	}
	u.Push("remove root filesystem", func(ctx context.Context) error { return e.cfg.Layers.Remove(ctx, c.id) })
	if with.changes != nil {
		if err := e.cfg.Layers.Fill(ctx, c.id, with.changes); err != nil {
			return err
		}
	}
	if err := os.Mkdir(e.home(c.id), 0o710); err != nil {
		return err
	}
	u.Push("remove directory", func(context.Context) error { return os.RemoveAll(e.home(c.id)) })
	if err := e.ensure(ctx, c.id, d.Mounts, &u); err != nil {
		return err
	}
	if err := e.keepSecrets(c.id, with.secrets, &u); err != nil {
		return err
	}
	if err := e.ledger.define(d, c.st); err != nil {
		return err
	}
	c.mu.Lock()
	c.unmade = false
	c.mu.Unlock()
	u.Release()
	return nil
}

// claim has take give a name to a container. Another one that has the name, but is only being made, or removed, is waited for: what is
// said about the name then is true, and still is when this daemon dies.
func (e *Engine) claim(ctx context.Context, name string, take func() error) error {
	var waited *container
	for {
		err := take()
		if !errdefs.IsConflict(err) {
			return err
		}
		holder := e.index.holder(name)
		switch {
		case holder == nil:
			continue // It has just gone.
		case holder == waited || !holder.passing():
			return err
		}
		if err := holder.op.acquire(ctx); err != nil {
			return err
		}
		holder.op.release()
		waited = holder
	}
}
