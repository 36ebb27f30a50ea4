package fileop

import (
	"context"
	"errors"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/sys"
)

// dest is a tree that is written to: a writable layer, and the layers below it for looking.
type dest struct {
	layers *layer.Store
	id     string
	prefix string    // of overlayfs's attributes
	below  *sys.Root // nil if there is nothing below
	upper  *sys.Root
	top    *dir
	umask  uint32
	under  digest.Digest // what the new layer is to lie over; empty if it is whole
	like   digest.Digest // the version before

	mu  sync.Mutex // guards err
	err error      // the first failure of what happens when directories are closed
}

// fail notes a failure that nobody can be told of right away.
func (d *dest) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err = err
	}
}

// failure is what fail noted.
func (d *dest) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// newDest begins a layer on top of others.
func (o *Ops) newDest(ctx context.Context, layers []digest.Digest) (_ *dest, err error) {
	d := &dest{layers: o.layers, id: newID(), umask: sys.Umask()}
	overlay, err := o.layers.Prepare(ctx, d.id, layers, layer.PrepareOptions{Bare: true, Volatile: true, Many: true})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.drop(context.WithoutCancel(ctx)))
		}
	}()
	d.prefix = "trusted.overlay."
	if overlay.UserXattr {
		d.prefix = "user.overlay."
	}
	if d.upper, err = sys.OpenRoot(overlay.Upper); err != nil {
		return nil, err
	}
	if len(layers) > 0 {
		if d.below, err = o.layers.OpenStack(layers); err != nil {
			return nil, err
		}
	}
	return d, d.openTop()
}

func (d *dest) openTop() (err error) {
	d.top, err = d.root()
	return err
}

// root opens the top of the tree, apart from d.top.
func (d *dest) root() (*dir, error) {
	fd, err := d.upper.OpenFD(".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	p := &dir{d: d, fd: fd, lower: -1}
	p.refs.Store(1)
	err = unix.Fstat(fd, &p.st)
	if err == nil && d.below != nil {
		p.lower, err = d.below.OpenFD(".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	}
	if err != nil {
		p.release()
		return nil, err
	}
	return p, nil
}

// shut closes everything that is open.
func (d *dest) shut() error {
	if d.top != nil {
		d.top.release()
		d.top = nil
	}
	var errs []error
	for _, r := range []*sys.Root{d.upper, d.below} {
		if r != nil {
			errs = append(errs, r.Close())
		}
	}
	return errors.Join(errs...)
}

// commit makes a layer of what was written.
func (d *dest) commit(ctx context.Context, hold *layer.Hold) (layer.Committed, error) {
	if err := errors.Join(d.failure(), d.shut()); err != nil {
		return layer.Committed{}, errors.Join(err, d.layers.Remove(ctx, d.id))
	}
	made, err := d.layers.Commit(ctx, d.id, layer.CommitOptions{Hold: hold, Under: d.under, Like: d.like})
	if err != nil {
		err = errors.Join(err, d.layers.Remove(context.WithoutCancel(ctx), d.id))
	}
	return made, err
}

// drop throws away what was written.
func (d *dest) drop(ctx context.Context) error {
	return errors.Join(d.shut(), d.layers.Remove(ctx, d.id))
}
