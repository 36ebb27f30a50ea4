package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/solver/pb"
	apiregistry "github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/fileop"
	"github.com/kistdev/kist/internal/image"
)

// resolved is what an image reference stands for in one build, for one platform: the same for all steps.
type resolved struct {
	done   chan struct{} // closed when what follows is there
	err    error
	digest digest.Digest
	config []byte
	// img is the image, once it is in our store.
	img atomic.Pointer[image.Image]
	// pull is the reference to pull it by.
	pull     string
	platform ocispec.Platform
	pulling  chan struct{} // holds something while one pulls
}

// resolveImage finds what ref stands for: in our store, unless mode says that the registry is to be asked, or there.
func (j *job) resolveImage(ctx context.Context, ref, mode string, platform ocispec.Platform) (*resolved, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, fmt.Errorf("the image %q: %w: %w", ref, err, errdefs.ErrInvalidArgument)
	}
	named = reference.TagNameOnly(named)
	key := platforms.FormatAll(platform) + " " + named.String()
	j.mu.Lock()
	r, ok := j.images[key]
	if !ok {
		r = &resolved{done: make(chan struct{}), platform: platform, pulling: make(chan struct{}, 1)}
		j.images[key] = r
	}
	j.mu.Unlock()
	if ok {
		select {
		case <-r.done:
			return r, r.err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	defer close(r.done)
	if r.err = j.lookUp(j.ctx, r, named, mode); r.err != nil {
		return nil, r.err
	}
	// Frontends ask for the same image by its digest next.
	if _, ok := named.(reference.Digested); !ok {
		if canonical, err := reference.WithDigest(named, r.digest); err == nil {
			j.mu.Lock()
			j.images[platforms.FormatAll(platform)+" "+canonical.String()] = r
			j.mu.Unlock()
		}
	}
	return r, nil
}

func (j *job) lookUp(ctx context.Context, r *resolved, named reference.Named, mode string) error {
	var here error
	if mode != pb.AttrImageResolveModeForcePull {
		img, err := j.b.cfg.Images.For(ctx, named.String(), &r.platform)
		if known, ok := fault.As(err); ok && known.Code == "platform-not-available" {
			img, err = j.b.cfg.Images.Get(ctx, named.String())
		}
		if err == nil && platforms.OnlyStrict(r.platform).Match(img.Config.Platform) {
			r.img.Store(img)
			r.digest = known(img, named)
			r.config, err = json.Marshal(img.Config)
			return err
		}
		if err != nil && !errdefs.IsNotFound(err) {
			return err
		}
		here = err
		if mode == pb.AttrImageResolveModePreferLocal && err != nil && isDigestOnly(named) {
			return err
		}
	}
	auth, err := j.credentials(ctx, named)
	if err != nil {
		return err
	}
	remote, err := j.b.cfg.Images.Peek(ctx, named.String(), image.PullOptions{Platform: &r.platform, Auth: auth})
	if err != nil {
		return nearImage(here, named, err)
	}
	r.digest, r.config, r.pull = remote.Digest, remote.Config, named.String()
	if !platforms.OnlyStrict(platforms.DefaultSpec()).Match(r.platform) {
		// Another platform's image does not get the tag, which containers here are made from.
		exact, err := reference.WithDigest(reference.TrimNamed(named), remote.Manifest)
		if err != nil {
			return err
		}
		r.pull = exact.String()
	}
	if img, err := j.b.cfg.Images.Get(ctx, reference.TrimNamed(named).String()+"@"+remote.Manifest.String()); err == nil {
		r.img.Store(img)
	}
	return nil
}

// nearImage adds to a registry's failure which image of ours may have been meant, if there is one of nearly that name. here is
// how the store put it.
func nearImage(here error, named reference.Named, err error) error {
	f, ok := fault.As(here)
	if !ok || !errdefs.IsNotFound(here) || f.Cause == "" || errors.Is(err, context.Canceled) {
		return err
	}
	return &fault.Error{
		Code: "image-not-found", What: "there is no image " + reference.FamiliarString(named) + " here, and its registry gives none",
		Cause: f.Cause + " here; " + err.Error(), Class: errdefs.ErrNotFound, Err: err,
	}
}

func isDigestOnly(named reference.Named) bool {
	_, tagged := named.(reference.Tagged)
	_, digested := named.(reference.Digested)
	return digested && !tagged
}

// known is the digest by which the repository knows the image; that of its manifest if it came from no registry.
func known(img *image.Image, named reference.Named) digest.Digest {
	if d, ok := named.(reference.Digested); ok {
		return d.Digest()
	}
	prefix := reference.TrimNamed(named).String() + "@"
	for _, name := range img.Names {
		if d, ok := strings.CutPrefix(name, prefix); ok {
			return digest.Digest(d)
		}
	}
	return img.Manifest.Digest
}

// credentials for the image's registry, from the client.
func (j *job) credentials(ctx context.Context, named reference.Named) (*apiregistry.AuthConfig, error) {
	if j.req.Session == nil {
		return nil, nil
	}
	auth, err := j.req.Session.Credentials(ctx, reference.Domain(named))
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil, nil
	}
	return auth, err
}

// fetch pulls the image unless it is here.
func (r *resolved) fetch(ctx context.Context, j *job, t *track) (*image.Image, error) {
	select {
	case r.pulling <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-r.pulling }()
	if img := r.img.Load(); img != nil {
		return img, nil
	}
	t.running()
	named, err := reference.ParseNormalizedNamed(r.pull)
	if err != nil {
		return nil, err
	}
	auth, err := j.credentials(ctx, named)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	img, err := j.b.cfg.Images.Pull(ctx, r.pull, image.PullOptions{Platform: &r.platform, Auth: auth, Report: func(p image.Progress) {
		if p.ID == "" || p.Status == "" || p.Total == 0 && p.Current == 0 {
			return
		}
		t.status(p.ID+" "+strings.ToLower(p.Status), p.Current, p.Total, began, p.Current == p.Total)
	}})
	if err != nil {
		return nil, err
	}
	r.img.Store(img)
	return img, nil
}

// imageOp is FROM an image.
type imageOp struct {
	j     *job
	v     *vertex
	ref   string
	attrs map[string]string
	found *resolved
}

// key is none: what stands on an image stands on its layers, whatever its name.
func (o *imageOp) key(ctx context.Context, _ *track, _ []result) (k cacheKey, err error) {
	o.found, err = o.j.resolveImage(ctx, o.ref, o.attrs[pb.AttrImageResolveMode], platformOf(o.v.op))
	k.cached = err == nil && o.found.img.Load() != nil
	return k, err
}

func (o *imageOp) run(ctx context.Context, t *track, _ []result) ([]result, error) {
	img, err := o.found.fetch(ctx, o.j, t)
	if err != nil {
		return nil, err
	}
	if want := o.attrs[pb.AttrImageChecksum]; want != "" && want != o.found.digest.String() {
		return nil, fmt.Errorf("the image %s is %s, not %s: %w", o.ref, o.found.digest, want, errdefs.ErrFailedPrecondition)
	}
	if !o.j.hold.Take(img.Layers...) {
		return nil, fmt.Errorf("the layers of %s are gone; it was removed while it was needed: %w", o.ref, errdefs.ErrUnavailable)
	}
	return []result{{Source: fileop.Source{Layers: img.Layers}}}, nil
}
