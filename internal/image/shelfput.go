package image

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/content"
)

// MissingError says which of the blobs or manifests that a manifest names are not here.
type MissingError struct{ Digest digest.Digest }

func (e *MissingError) Error() string { return "it names " + e.Digest.String() + ", which is not here" }

// Unwrap gives the class.
func (e *MissingError) Unwrap() error { return errdefs.ErrInvalidArgument }

// Put is a manifest to put on the shelf.
type Put struct {
	// Repo and Ref, a tag or the digest of Raw, are what it is called.
	Repo, Ref string
	// MediaType is what its sender says of it; empty is what it says of itself.
	MediaType string
	Raw       []byte
}

// PutDone is what became of it.
type PutDone struct {
	Descriptor ocispec.Descriptor
	// Subject is what the manifest is about; empty for most.
	Subject digest.Digest
	// Image is the local image that it became; nil if it is none.
	Image *Image
}

// putting is one running Put.
type putting struct {
	f     *Shelf
	full  string // the repository
	tag   string // empty if it is put by digest
	face  manifestFace
	desc  ocispec.Descriptor
	lease *content.Lease
}

// Put takes a manifest in, whose blobs must be here. An image gets its name once its layers are unpacked; of an index, whose
// images all get it, that is the one for this host.
func (f *Shelf) Put(ctx context.Context, p Put) (PutDone, error) {
	t, err := f.begin(p)
	if err != nil {
		return PutDone{}, err
	}
	t.lease = f.s.content.Lease()
	defer t.lease.Release()
	if err := t.check(); err != nil {
		return PutDone{}, err
	}
	t.lease.Hold(t.desc.Digest)
	if err := f.s.putBlob(ctx, t.desc, p.Raw); err != nil {
		return PutDone{}, content.ExplainFull(f.s.content.Dir(), err)
	}
	img, err := t.name(ctx)
	if err != nil {
		return PutDone{}, content.ExplainFull(f.s.content.Dir(), err)
	}
	done := PutDone{Descriptor: t.desc, Image: img}
	if t.face.Subject != nil {
		done.Subject = t.face.Subject.Digest
	}
	return done, nil
}

// begin reads a manifest and checks what it is called.
func (f *Shelf) begin(p Put) (*putting, error) {
	full, err := repoName(p.Repo)
	if err != nil {
		return nil, err
	}
	t := &putting{f: f, full: full}
	algorithm := digest.Canonical
	if d, err := digest.Parse(p.Ref); err == nil {
		algorithm = d.Algorithm()
		if got := algorithm.FromBytes(p.Raw); got != d {
			return nil, fmt.Errorf("the manifest has the digest %s, not %s: %w", got, d, errdefs.ErrInvalidArgument)
		}
	} else if _, err := reference.WithTag(mustNamed(full), p.Ref); err != nil {
		return nil, fmt.Errorf("tag %q: %w: %w", p.Ref, err, errdefs.ErrInvalidArgument)
	} else {
		t.tag = p.Ref
	}
	if err := json.Unmarshal(p.Raw, &t.face); err != nil {
		return nil, fmt.Errorf("read manifest: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	kind := p.MediaType
	if kind != mediaTypeArtifact || t.face.MediaType != mediaTypeArtifact {
		if kind, err = kindOf(p.MediaType, p.Raw); err != nil {
			return nil, err
		}
	}
	t.desc = ocispec.Descriptor{MediaType: kind, Digest: algorithm.FromBytes(p.Raw), Size: int64(len(p.Raw))}
	return t, nil
}

// mustNamed is a full repository name, which has been parsed before.
func mustNamed(full string) reference.Named {
	named, err := reference.ParseNormalizedNamed(full)
	if err != nil {
		return nil
	}
	return named
}

// check holds what the manifest names, and refuses it if something is missing.
func (t *putting) check() error {
	need := slices.Concat(t.face.Layers, t.face.Blobs)
	if t.face.Config != nil {
		need = append(need, *t.face.Config)
	}
	if isIndex(t.desc.MediaType) {
		need = t.face.Manifests
	}
	if s := t.face.Subject; s != nil {
		if err := checkDescriptor(*s); err != nil {
			return fmt.Errorf("its subject: %w", err)
		}
	}
	for _, d := range need {
		if err := checkDescriptor(d); err != nil {
			return err
		}
		t.lease.Hold(d.Digest)
		if len(d.URLs) == 0 && !t.f.s.hasBlob(d) {
			return &MissingError{d.Digest}
		}
	}
	return nil
}

// name makes an image of it where it is one, and writes down what it is called.
func (t *putting) name(ctx context.Context) (*Image, error) {
	r, err := t.image(ctx)
	if err != nil {
		return nil, err
	}
	v := served{repo: t.full, tag: t.tag, desc: t.desc, artifact: r == nil, at: time.Now()}
	if t.face.Subject != nil {
		v.subject = t.face.Subject.Digest
	}
	var e entry
	if r != nil {
		if e, err = t.entry(r); err != nil {
			return nil, err
		}
	}
	err = t.f.s.name(func(ed *editor) error {
		if r != nil {
			t.nameImage(ed, e)
		}
		if r == nil || v.subject != "" || r.desc.Digest != t.desc.Digest {
			ed.putServed(v)
		} else { // A tag that stood for an index or an artifact stands for an image now.
			ed.served = slices.DeleteFunc(ed.served, func(o served) bool { return o.repo == v.repo && o.tag == v.tag && v.tag != "" })
		}
		t.claim(ed)
		return nil
	})
	if err != nil || r == nil {
		return nil, err
	}
	img, err := t.f.s.image(t.f.s.catalog.snapshot(), entry{id: r.id, desc: r.desc})
	if err == nil && t.tag != "" {
		t.f.s.emit(events.ActionTag, img.ID.String(), familiar(t.full+":"+t.tag), img.Config.Config.Labels)
	}
	return img, err
}

// entry is what the tag is to stand for: the image, with those of its index for other platforms, which are unpacked when
// somebody needs that.
func (t *putting) entry(r *record) (entry, error) {
	e := entry{id: r.id, desc: r.desc, source: t.desc.Digest, tagged: time.Now()}
	if r.desc.Digest == t.desc.Digest {
		return e, nil
	}
	e.index = t.desc
	list := []part{}
	for _, d := range t.face.Manifests {
		if d.Digest == r.desc.Digest || isStatement(d) || !isManifest(d.MediaType) {
			continue
		}
		other, err := t.f.s.record(ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size})
		if err != nil || !t.f.s.isWhole(other) {
			continue // It is an artifact, or not for containers.
		}
		set := digests{}
		other.mark(set)
		for d := range set {
			t.lease.Hold(d)
		}
		list = append(list, part{other.id, other.desc})
	}
	return t.f.s.arrange(e, append(list, part{r.id, r.desc}))
}

// isWhole says whether an image's layers can be read.
func (s *Store) isWhole(r *record) bool {
	for _, l := range r.manifest.Layers {
		if !s.hasBlob(l) {
			return false
		}
	}
	return r.config.OS != "unknown" && r.manifest.ArtifactType == ""
}

// nameImage gives the image the tag, and the digest by which the repository knows it.
func (t *putting) nameImage(ed *editor, e entry) {
	e.name = t.full + "@" + t.desc.Digest.String()
	ed.put(e)
	if t.tag != "" {
		e.name = t.full + ":" + t.tag
		ed.put(e)
	}
}

// claim drops the records of manifests that have been waiting for this index.
func (t *putting) claim(ed *editor) {
	if !isIndex(t.desc.MediaType) {
		return
	}
	ed.served = slices.DeleteFunc(ed.served, func(v served) bool {
		return v.repo == t.full && v.tag == "" && v.subject == "" && v.desc.Digest != t.desc.Digest &&
			slices.ContainsFunc(t.face.Manifests, func(d ocispec.Descriptor) bool { return d.Digest == v.desc.Digest })
	})
}

// image is the image that the manifest, or one of the index, stands for on this machine, unpacked; nil if there is none.
// Manifests that come by digest and are not for this host are parts of an index that comes later: nobody runs them here.
func (t *putting) image(ctx context.Context) (*record, error) {
	if isIndex(t.desc.MediaType) {
		return t.ofIndex(ctx)
	}
	if !t.isImage() {
		return nil, nil
	}
	r, err := t.f.s.readRecord(t.desc)
	if err != nil {
		return nil, err
	}
	if t.tag == "" && !platforms.Only(platforms.DefaultSpec()).Match(platforms.Normalize(r.config.Platform)) {
		return nil, nil
	}
	return r, t.unpack(ctx, r)
}

// isImage tells images from artifacts.
func (t *putting) isImage() bool {
	c := t.face.Config
	return isManifest(t.desc.MediaType) && c != nil && t.face.ArtifactType == "" &&
		(c.MediaType == ocispec.MediaTypeImageConfig || c.MediaType == dockerConfig) && !t.attestation()
}

// attestation says whether the manifest is one of BuildKit's, which look like images of no platform.
func (t *putting) attestation() bool {
	return slices.ContainsFunc(t.face.Layers, func(d ocispec.Descriptor) bool {
		return strings.HasPrefix(d.MediaType, "application/vnd.in-toto")
	})
}

// ofIndex picks the image for this host, or the first of another platform.
func (t *putting) ofIndex(ctx context.Context) (*record, error) {
	index := &ocispec.Index{Manifests: t.face.Manifests}
	chosen, err := choose(index, nil)
	if err != nil {
		i := slices.IndexFunc(index.Manifests, func(d ocispec.Descriptor) bool {
			return isManifest(d.MediaType) && d.Platform != nil && d.Platform.OS != "unknown"
		})
		if i < 0 {
			return nil, nil
		}
		chosen = index.Manifests[i]
	}
	if !isManifest(chosen.MediaType) {
		return nil, nil
	}
	r, err := t.f.s.readRecord(ocispec.Descriptor{MediaType: chosen.MediaType, Digest: chosen.Digest, Size: chosen.Size})
	if errdefs.IsInvalidArgument(err) {
		return nil, nil // An index of artifacts.
	}
	if err != nil {
		return nil, err
	}
	return r, t.unpack(ctx, r)
}

// unpack makes the image one that containers can be made of.
func (t *putting) unpack(ctx context.Context, r *record) error {
	set := digests{}
	r.mark(set)
	for d := range set {
		t.lease.Hold(d)
	}
	for i, l := range r.manifest.Layers {
		id := r.config.RootFS.DiffIDs[i]
		if t.f.s.layers.Has(id) {
			continue
		}
		if err := t.f.s.unpackBlob(ctx, l, id); err != nil {
			return fmt.Errorf("layer %s: %w", l.Digest, err)
		}
	}
	return t.f.s.noteAll(r)
}
