package image

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/content"
)

// assembly is what a name stands for, on its way to somebody else: whole, and nothing that it names is missing.
type assembly struct {
	entry entry
	// top is what the name is to stand for there: an index, or the one manifest.
	top    ocispec.Descriptor
	images []*record
	// statements are the manifests about the images.
	statements []ocispec.Descriptor
	// absent are the platforms' images that the index names and that are not here.
	absent []ocispec.Descriptor
}

// assembling is what an assembly is made with.
type assembling struct {
	s     *Store
	lease *content.Lease
	// change may make an image one that can leave; nil leaves all as they are.
	change func(context.Context, *record) (*record, error)
}

// assemble gathers what of an entry is here, or the images for the platforms that are wanted. Where that is not all that the
// index names it makes another one, and none for one image alone. What it uses is held by the lease.
func (a *assembling) assemble(ctx context.Context, e entry, ref string, wish []ocispec.Platform) (*assembly, error) {
	chosen, err := a.s.chosen(e, ref, wish)
	if err != nil {
		return nil, err
	}
	set := digests{}
	a.s.markEntry(chosen, set)
	for d := range set {
		a.lease.Hold(d)
	}
	out := &assembly{}
	var parts, before []part
	for _, p := range chosen.parts() {
		r, err := a.s.record(p.desc)
		if err == nil && a.change != nil {
			r, err = a.change(ctx, r)
		}
		if err != nil {
			return nil, err
		}
		d := r.desc
		d.Platform = p.desc.Platform
		out.images = append(out.images, r)
		parts, before = append(parts, part{r.id, d}), append(before, p)
	}
	out.entry = chosen
	out.entry.desc, out.entry.others = parts[0].desc, parts[1:]
	return out, a.describe(ctx, out, before, len(wish) > 0)
}

// chosen is the entry with the images for some platforms only.
func (s *Store) chosen(e entry, ref string, wish []ocispec.Platform) (entry, error) {
	if len(wish) == 0 {
		return e, nil
	}
	var list []part
	for i := range wish {
		one, err := s.pick(e, ref, &wish[i])
		if err != nil {
			return e, err
		}
		if p := (part{one.id, one.desc}); !slices.ContainsFunc(list, func(o part) bool { return o.id == p.id }) {
			list = append(list, p)
		}
	}
	index := e.index
	if len(list) < len(e.others)+1 {
		e.parent = ""
	}
	e, err := s.arrange(e, list)
	e.index = index
	return e, err
}

// describe finds or makes what describes the images together. before are the images as the entry's index names them. partial
// says that only some platforms are wanted.
func (a *assembling) describe(ctx context.Context, out *assembly, before []part, partial bool) error {
	if len(out.images) == 1 && (partial || out.entry.index.Digest == "") {
		out.alone()
		return nil
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	if d := out.entry.index; d.Digest != "" {
		if old, err := a.s.indexOf(d); err == nil { // An older version that opened the store did not keep it.
			index = *old
			index.MediaType = d.MediaType
		}
	}
	c := &choosing{out: out, before: before}
	for _, m := range index.Manifests {
		if err := a.child(ctx, c, m); err != nil {
			return err
		}
	}
	for i, p := range out.entry.parts() {
		if !slices.ContainsFunc(c.list, func(d ocispec.Descriptor) bool { return d.Digest == p.desc.Digest }) {
			d := p.desc
			platform := platformOf(p, out.images[i])
			d.Platform = &platform
			c.list, c.changed = append(c.list, d), true
		}
	}
	switch {
	case !c.changed:
		out.top = out.entry.index
		return nil
	case len(out.images) == 1 && c.lost && len(out.statements) == 0:
		out.alone()
		return nil
	}
	if partial {
		out.absent = nil
	}
	index.Manifests = c.list
	made := &composition{s: a.s, lease: a.lease}
	var err error
	out.top, err = made.putJSON(ctx, index.MediaType, index)
	out.entry.index = out.top
	return err
}

// alone makes it one image, without an index.
func (out *assembly) alone() {
	out.statements, out.entry.index, out.top = nil, ocispec.Descriptor{}, out.entry.desc
}

// choosing is the list of what an index is to name.
type choosing struct {
	out    *assembly
	before []part
	list   []ocispec.Descriptor
	// changed says that it is not what the old index names, lost that it is less.
	changed, lost bool
}

// child takes over what an index names, as far as it is here.
func (a *assembling) child(ctx context.Context, c *choosing, m ocispec.Descriptor) error {
	find := func(d digest.Digest) int {
		return slices.IndexFunc(c.before, func(p part) bool { return p.desc.Digest == d })
	}
	now := c.out.entry.parts()
	if i := find(m.Digest); i >= 0 {
		if d := now[i].desc; d.Digest != m.Digest {
			m.MediaType, m.Digest, m.Size, c.changed = d.MediaType, d.Digest, d.Size, true
		}
		c.list = append(c.list, m)
		return nil
	}
	if !isStatement(m) {
		if isIndex(m.MediaType) || isManifest(m.MediaType) && (m.Platform == nil || m.Platform.OS != "unknown") {
			c.out.absent = append(c.out.absent, m)
		}
		c.changed, c.lost = true, true
		return nil
	}
	i := find(about(m))
	var manifest *ocispec.Manifest
	here := i >= 0
	if here {
		manifest, here = a.s.hasStatement(m)
	}
	if !here {
		c.changed, c.lost = true, true
		return nil
	}
	if now[i].desc.Digest != about(m) {
		var err error
		if m, err = a.restate(ctx, m, manifest, now[i].desc); err != nil {
			return err
		}
		c.changed = true
	}
	c.list, c.out.statements = append(c.list, m), append(c.out.statements, m)
	return nil
}

// restate makes statements about an image that has another manifest now: the image itself is the same.
func (a *assembling) restate(ctx context.Context, d ocispec.Descriptor, m *ocispec.Manifest, now ocispec.Descriptor) (ocispec.Descriptor, error) {
	img := &BuildImage{}
	for _, l := range m.Layers {
		raw, err := a.s.content.Bytes(l.Digest, manifestLimit)
		if err != nil {
			return d, fmt.Errorf("read attestation: %w", err)
		}
		var st statement
		if err := json.Unmarshal(raw, &st); err != nil {
			return d, fmt.Errorf("read attestation: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		at := Attestation{PredicateType: st.PredicateType, Predicate: st.Predicate}
		for _, s := range st.Subject {
			at.Subjects = append(at.Subjects, s.Name)
		}
		img.Attestations = append(img.Attestations, at)
	}
	made := &composition{s: a.s, lease: a.lease}
	if err := made.attest(ctx, img, now); err != nil {
		return d, err
	}
	if len(made.extra) == 0 {
		return d, fmt.Errorf("an attestation without a statement: %w", errdefs.ErrInvalidArgument)
	}
	made.extra[0].Platform = d.Platform
	return made.extra[0], nil
}

// absentPlatforms names the platforms that are not here.
func (out *assembly) absentPlatforms() []string {
	var list []string
	for _, d := range out.absent {
		if d.Platform != nil {
			list = append(list, platforms.Format(platforms.Normalize(*d.Platform)))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
