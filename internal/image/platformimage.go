package image

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/fault"
)

// For resolves a reference like Get, to the image for a platform: nil is the one for this host, or the only one. Its layers are
// unpacked when it returns. Where there is none for the platform, the error is an errdefs.ErrNotFound fault that tells which
// there are.
func (s *Store) For(ctx context.Context, ref string, wish *ocispec.Platform) (*Image, error) {
	snap := s.catalog.snapshot()
	e, err := snap.find(ref)
	if err != nil {
		return nil, err
	}
	if wish != nil {
		if e, err = s.pick(e, ref, wish); err != nil {
			return nil, err
		}
	}
	img, err := s.image(snap, e)
	if err != nil {
		return nil, err
	}
	return img, s.ready(ctx, e)
}

// All are the images that a reference stands for, that for this host first.
func (s *Store) All(_ context.Context, ref string) ([]*Image, error) {
	snap := s.catalog.snapshot()
	e, err := snap.find(ref)
	if err != nil {
		return nil, err
	}
	var list []*Image
	for _, p := range e.parts() {
		img, err := s.image(snap, e.alone(p))
		if err != nil {
			return nil, err
		}
		list = append(list, img)
	}
	return list, nil
}

// pick takes an entry's best image for a platform.
func (s *Store) pick(e entry, ref string, wish *ocispec.Platform) (entry, error) {
	want, matcher := wanted(wish)
	type fit struct {
		part
		platform ocispec.Platform
	}
	var (
		fits []fit
		here []string
	)
	for _, p := range e.parts() {
		r, err := s.record(p.desc)
		if err != nil {
			return e, damaged(p.id, err)
		}
		has := platformOf(p, r)
		here = append(here, platforms.Format(has))
		if matcher.Match(has) {
			fits = append(fits, fit{p, has})
		}
	}
	if len(fits) == 0 {
		return e, notHere(ref, want, here)
	}
	best := slices.MinFunc(fits, func(a, b fit) int { return preference(matcher, a.platform, b.platform) })
	return e.alone(best.part), nil
}

// notHere says that a name has no image for a platform, and which it has.
func notHere(ref string, want ocispec.Platform, here []string) error {
	f := &fault.Error{
		Code: "platform-not-available", Class: errdefs.ErrNotFound,
		What:  fmt.Sprintf("image with reference %s was found but does not match the specified platform", ref),
		Cause: fmt.Sprintf("wanted %s, actual: %s", platforms.Format(want), here[0]), Try: "--platform " + here[0],
	}
	if len(here) > 1 {
		f.Cause = fmt.Sprintf("wanted %s; here are %s", platforms.Format(want), strings.Join(here, ", "))
	}
	return f
}

// ready unpacks those layers of an image that nobody has needed until now: images for other platforms come without that, where
// somebody pushes them to us.
func (s *Store) ready(ctx context.Context, e entry) error {
	r, err := s.record(e.desc)
	if err != nil {
		return err
	}
	missing := func(id digest.Digest) bool { return !s.layers.Has(id) }
	if !slices.ContainsFunc(r.config.RootFS.DiffIDs, missing) {
		return nil
	}
	lease := s.content.Lease()
	defer lease.Release()
	set := digests{}
	r.mark(set)
	for d := range set {
		lease.Hold(d)
	}
	for i, l := range r.manifest.Layers {
		if !missing(r.config.RootFS.DiffIDs[i]) {
			continue
		}
		if err := s.unpackBlob(ctx, l, r.config.RootFS.DiffIDs[i]); err != nil {
			return fmt.Errorf("unpack layer %s of image %s: %w", short(l.Digest), short(e.id), err)
		}
	}
	s.layers.SyncBehind()
	return s.noteAll(r)
}
