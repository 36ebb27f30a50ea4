package move

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/engine"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/undo"
)

// check says whether the container could be made, before anything comes. What is made of the move before the container is goes
// again if the container does not come to be.
func (r *receiving) check(ctx context.Context, p *containerPlan) error {
	if p.Request.Config == nil || p.Request.HostConfig == nil {
		return fmt.Errorf("a container without a configuration: %w", errdefs.ErrInvalidArgument)
	}
	if p.Arch != "" && p.Arch != runtime.GOARCH {
		return &fault.Error{
			Code: "move-other-platform", What: "container " + p.Name + " cannot run on the other host", Class: errdefs.ErrFailedPrecondition,
			Cause: fmt.Sprintf("its image is for %s, the host there is %s", p.Arch, runtime.GOARCH), Try: "build the image for " + runtime.GOARCH,
		}
	}
	if other, err := r.Containers.Inspect(ctx, p.Name, false); err == nil && strings.TrimPrefix(other.Name, "/") == p.Name {
		return &fault.Error{
			Code: "container-name-taken", What: "there is a container " + p.Name + " on the other host already", Class: errdefs.ErrConflict,
			Cause: fmt.Sprintf("it is %.12s, %s", other.ID, other.State.Status), Try: "--name ANOTHER, or remove that one",
		}
	}
	r.awaited = true
	r.undo.Push("remove the move's volumes", r.removePlaced)
	return r.wire.say(&message{Done: &done{ID: p.Name}})
}

func (r *receiving) removePlaced(ctx context.Context) error {
	var errs []error
	for _, v := range r.placed {
		errs = append(errs, r.Volumes.Remove(ctx, v, true))
	}
	return errors.Join(errs...)
}

// container makes the container, and starts it if it ran.
func (r *receiving) container(ctx context.Context, p *containerPlan) error {
	spool, err := r.changes(ctx)
	if err != nil {
		return r.explainFull(err)
	}
	defer func() {
		_ = spool.Close()
		_ = os.Remove(spool.Name()) // The next move removes it at the latest.
	}()
	d, err := r.make(ctx, p, spool)
	if err != nil {
		return err
	}
	// What was made for the move is the container's now: it stays, also if the sender cannot be told.
	r.undo.Release()
	return r.wire.say(&message{Done: d})
}

// changes keeps the container's changes until it is made.
func (r *receiving) changes(ctx context.Context) (_ *os.File, err error) {
	f, err := os.CreateTemp(r.dir, "recipe-changes-*")
	if err != nil {
		return nil, err
	}
	err = r.tar(ctx, func(_ context.Context, tar io.Reader) error {
		_, err := io.Copy(f, tar)
		return err
	})
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return f, nil
}

func (r *receiving) make(ctx context.Context, p *containerPlan, changes io.Reader) (_ *done, err error) {
	var u undo.Stack
	defer func() {
		if uerr := u.Unwind(ctx); uerr != nil {
			err = errors.Join(err, uerr)
		}
	}()
	d := &done{}
	for i := range p.Networks {
		note, err := r.network(ctx, &p.Networks[i], &u)
		if err != nil {
			return nil, err
		}
		d.Notes = append(d.Notes, note...)
	}
	config := *p.Request.Config
	if img, err := r.Images.Get(ctx, config.Image); err != nil || img.ID.String() != p.Image {
		config.Image = p.Image
	}
	p.Request.Config = &config
	made, err := r.Containers.CreateFilled(ctx, p.Name, nil, p.Request, changes)
	if err != nil {
		return nil, fmt.Errorf("make the container there: %w", err)
	}
	u.Push("remove the container", func(ctx context.Context) error {
		return r.Containers.Remove(ctx, made.ID, engine.RemoveOptions{Force: true})
	})
	if err := r.Layers.Sync(ctx); err != nil {
		return nil, err
	}
	d.ID = made.ID
	d.Notes = append(d.Notes, made.Warnings...)
	if p.Start {
		if err := r.Containers.Start(ctx, made.ID); err != nil {
			return nil, fmt.Errorf("start the container there: %w", err)
		}
		d.Running = true
	}
	u.Release()
	return d, nil
}

// network makes a network of the container's, unless there is one of that name.
func (r *receiving) network(ctx context.Context, req *network.CreateRequest, u *undo.Stack) (notes []string, err error) {
	_, err = r.Networks.Inspect(ctx, req.Name)
	if err == nil || !errdefs.IsNotFound(err) {
		return nil, err
	}
	if _, err := r.Networks.Create(ctx, *req); err != nil {
		return nil, fmt.Errorf("make network %s there: %w", req.Name, err)
	}
	u.Push("remove the network", func(ctx context.Context) error { return r.Networks.Remove(ctx, req.Name) })
	return []string{"made the network " + req.Name + " there"}, nil
}
