package image

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	apiregistry "github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/content"
	"github.com/kistdev/kist/internal/registry"
)

// PullOptions for Pull and Push.
type PullOptions struct {
	Platform *ocispec.Platform
	Auth     *apiregistry.AuthConfig // nil: the daemon asks for none
	AllTags  bool
	Report   Reporter
}

// pull is one running pull.
type pull struct {
	s     *Store
	repo  *registry.Repository
	lease *content.Lease
	named reference.Named
	o     PullOptions
	begun digests // layers
}

// Pull fetches ref (all blobs verified, layers unpacked) and names it. It ends with docker's "Digest:" and "Status:" lines
// given to Report. With AllTags it fetches all tags of the repository, and returns the image of the last one.
func (s *Store) Pull(ctx context.Context, ref string, o PullOptions) (*Image, error) {
	named, err := parseName(ref)
	if err != nil {
		return nil, err
	}
	repo, err := s.client.Repository(ctx, named, o.Auth)
	if err != nil {
		return nil, err
	}
	defer repo.Close()
	if !o.AllTags {
		return s.pullOne(ctx, repo, named, o)
	}
	tags, err := repo.Tags(ctx)
	if err != nil {
		return nil, err
	}
	var last *Image
	for _, tag := range tags {
		tagged, err := reference.WithTag(reference.TrimNamed(named), tag)
		if err != nil {
			return nil, fmt.Errorf("tag %q: %w: %w", tag, err, errdefs.ErrUnavailable)
		}
		if last, err = s.pullOne(ctx, repo, tagged, o); err != nil {
			return nil, err
		}
	}
	if last == nil {
		return nil, fmt.Errorf("%s has no tags: %w", reference.FamiliarName(named), errdefs.ErrNotFound)
	}
	return last, nil
}

func (s *Store) pullOne(ctx context.Context, repo *registry.Repository, named reference.Named, o PullOptions) (*Image, error) {
	lease := s.content.Lease()
	defer lease.Release()
	p := &pull{s: s, repo: repo, lease: lease, named: named, o: o, begun: digests{}}
	img, source, fresh, err := p.fetch(ctx)
	if err != nil {
		err = content.ExplainFull(s.content.Dir(), err)
		if !resumable(err) {
			lease.Release()
			s.tidy(err, p.begun)
		}
		return nil, err
	}
	name := reference.FamiliarString(named)
	o.Report.status("", "Digest: "+source.String())
	if fresh {
		o.Report.status("", "Status: Downloaded newer image for "+name)
	} else {
		o.Report.status("", "Status: Image is up to date for "+name)
	}
	s.emit(events.ActionPull, name, reference.FamiliarName(named), img.Config.Config.Labels)
	return img, nil
}

// resumable says whether the next attempt may go on with what this one has fetched.
func resumable(err error) bool {
	return errdefs.IsUnavailable(err) || errdefs.IsCanceled(err) || errdefs.IsDeadlineExceeded(err)
}

// reference is the tag or digest to ask the registry for.
func (p *pull) reference() string {
	switch n := p.named.(type) {
	case reference.Digested:
		return n.Digest().String()
	case reference.Tagged:
		return n.Tag()
	}
	return "latest"
}

// begin says so when it is known that there is something to pull: what goes wrong before has an answer of its own.
func (p *pull) begin() {
	p.o.Report.status(p.reference(), "Pulling from "+reference.Path(p.named))
}

// fetch brings everything here and names it. fresh is false if everything was here before.
func (p *pull) fetch(ctx context.Context) (img *Image, source digest.Digest, fresh bool, err error) {
	img, source, ok := p.upToDate(ctx)
	if ok {
		p.begin()
		return img, source, false, nil
	}
	m, err := p.manifest(ctx)
	if err != nil {
		return nil, "", false, err
	}
	p.begin()
	before := p.s.catalog.snapshot()
	r, err := p.blobs(ctx, m.desc, m.raw)
	if err != nil {
		return nil, "", false, err
	}
	if err := p.name(ctx, r, m); err != nil {
		return nil, "", false, err
	}
	snap := p.s.catalog.snapshot()
	img, err = p.s.image(snap, entry{id: r.id, desc: r.desc})
	old, had := before.byName[p.named.String()]
	return img, m.source, !had || !before.entries[old].has(r.id), err
}

// upToDate asks the registry only what the tag stands for: most pulls find that it is here already, and a HEAD does not
// count against rate limits.
func (p *pull) upToDate(ctx context.Context) (*Image, digest.Digest, bool) {
	snap := p.s.catalog.snapshot()
	i, ok := snap.byName[p.named.String()]
	if !ok {
		return nil, "", false
	}
	e, err := p.s.pick(snap.entries[i], "", p.hostOr())
	if err != nil {
		return nil, "", false
	}
	p.lease.Hold(e.desc.Digest, e.id)
	img, err := p.s.image(snap, e)
	if err != nil || !p.complete(e) {
		return nil, "", false
	}
	source := e.source
	if d, ok := p.named.(reference.Digested); ok {
		return img, d.Digest(), true
	}
	d, err := p.repo.Resolve(ctx, p.reference())
	if err != nil || d.Digest == "" || d.Digest != source {
		return nil, "", false // The whole way will tell what is wrong.
	}
	return img, source, true
}

// hostOr is the platform that was asked for, or the host's.
func (p *pull) hostOr() *ocispec.Platform {
	if p.o.Platform != nil {
		return p.o.Platform
	}
	host := platforms.DefaultSpec()
	return &host
}

// complete says whether all of an image's blobs and layers are here.
func (p *pull) complete(e entry) bool {
	r, err := p.s.record(e.desc)
	if err != nil {
		return false
	}
	set := digests{}
	r.mark(set)
	for d := range set {
		p.lease.Hold(d)
	}
	for i, l := range r.manifest.Layers {
		if !p.s.content.Has(l.Digest) || !p.s.layers.Has(r.config.RootFS.DiffIDs[i]) {
			return false
		}
	}
	return p.s.content.Has(r.id) && p.s.content.Has(r.desc.Digest)
}

// name gives the image its names: the one asked for, and the digest under which the registry knows it. The images for other
// platforms that were pulled of the same index keep the names too.
func (p *pull) name(ctx context.Context, r *record, f found) error {
	byDigest, err := reference.WithDigest(reference.TrimNamed(p.named), f.source)
	if err != nil {
		return err
	}
	e := entry{id: r.id, desc: r.desc, source: f.source, tagged: time.Now()}
	if f.index != nil {
		e.index = ocispec.Descriptor{MediaType: f.kind, Digest: f.source, Size: int64(len(f.index))}
		p.lease.Hold(f.source)
		if err := p.s.putBlob(ctx, e.index, f.index); err != nil {
			return err
		}
	}
	return p.s.name(func(ed *editor) error {
		e, err := p.s.beside(ed, e)
		if err != nil {
			return err
		}
		e.name = byDigest.String()
		ed.put(e)
		e.name = p.named.String()
		ed.put(e)
		return nil
	})
}

// beside adds to images that have come those of the same index that are here already.
func (s *Store) beside(ed *editor, e entry) (entry, error) {
	if e.index.Digest == "" {
		return e, nil
	}
	index, err := s.indexOf(e.index)
	if err != nil {
		return e, err
	}
	list := []part{}
	for _, o := range ed.entries {
		if o.source != e.source && o.index.Digest != e.index.Digest {
			continue
		}
		for _, p := range o.parts() {
			its := slices.ContainsFunc(index.Manifests, func(d ocispec.Descriptor) bool { return d.Digest == p.desc.Digest })
			if its {
				list = append(list, p)
			}
		}
	}
	return s.arrange(e, append(list, e.parts()...))
}
