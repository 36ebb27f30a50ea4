package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/content"
)

// archived is one image in docker's manifest.json.
type archived struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// saving is what an archive will hold.
type saving struct {
	index  ocispec.Index
	docker []archived
	blobs  []ocispec.Descriptor // each once: configurations and manifests before layers
	images []digest.Digest
	seen   digests
}

// Save writes images to one archive that docker load, podman and OCI tools all read (manifest.json beside an OCI layout). The
// descriptions come first, so that a reader can unpack layers while they come.
func (s *Store) Save(ctx context.Context, refs []string, wish []ocispec.Platform, w io.Writer) error {
	lease := s.content.Lease()
	defer lease.Release()
	plan := &saving{seen: digests{}, index: ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
	}}
	var layers []ocispec.Descriptor
	for _, ref := range refs {
		more, err := s.planSave(ctx, plan, lease, ref, wish)
		if err != nil {
			return err
		}
		layers = append(layers, more...)
	}
	for _, l := range layers {
		plan.add(l)
	}
	for _, d := range plan.blobs {
		lease.Hold(d.Digest)
	}
	if err := s.writeArchive(ctx, plan, w); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	for _, id := range plan.images {
		s.emit(events.ActionSave, id.String(), id.String(), nil)
	}
	return nil
}

func (p *saving) add(d ocispec.Descriptor) {
	if !p.seen.has(d.Digest) {
		p.seen.add(d.Digest)
		p.blobs = append(p.blobs, d)
	}
}

// planSave adds what one reference stands for: one name, all tags of a repository, or an image without name.
func (s *Store) planSave(
	ctx context.Context, plan *saving, lease *content.Lease, ref string, wish []ocispec.Platform,
) (layers []ocispec.Descriptor, err error) {
	snap := s.catalog.snapshot()
	list := snap.tagged(ref)
	if len(list) == 0 {
		e, err := snap.find(ref)
		if err != nil {
			return nil, err
		}
		if full, err := fullName(ref); err != nil || full != e.name || isDigestName(full) {
			e.name = "" // It was asked for by id or digest.
		}
		list = append(list, e)
	}
	for _, e := range list {
		a := &assembling{s: s, lease: lease}
		out, err := a.assemble(ctx, e, ref, wish)
		if err == nil {
			layers, err = s.planEntry(plan, out, layers)
		}
		if err != nil {
			return nil, fmt.Errorf("save %s: %w", ref, err)
		}
	}
	return layers, nil
}

// tagged lists the tags of a repository, if ref is the name of one and of nothing more.
func (s *snapshot) tagged(ref string) []entry {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil || !reference.IsNameOnly(named) {
		return nil
	}
	var list []entry
	for _, e := range s.entries {
		if e.name != "" && !isDigestName(e.name) && repository(e.name) == named.Name() {
			list = append(list, e)
		}
	}
	return list
}

// planEntry adds what a name stands for, and its layers' blobs to others.
func (s *Store) planEntry(plan *saving, out *assembly, layers []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	for _, r := range out.images {
		for _, l := range r.manifest.Layers {
			if !s.hasBlob(l) {
				return nil, fmt.Errorf("layer %s is not stored here: %w", l.Digest, errdefs.ErrNotFound)
			}
		}
	}
	plan.image(out)
	for _, r := range out.images {
		plan.add(r.manifest.Config)
		plan.add(r.desc)
		layers = append(layers, r.manifest.Layers...)
	}
	for _, d := range out.statements {
		m, ok := s.hasStatement(d)
		if !ok {
			return nil, fmt.Errorf("attestation %s is gone: %w", d.Digest, errdefs.ErrNotFound)
		}
		plan.add(d)
		plan.add(m.Config)
		for _, l := range m.Layers {
			plan.add(l)
		}
	}
	plan.add(out.top)
	return layers, nil
}

// image adds what a name stands for to both descriptions; docker's has room for one image of it.
func (p *saving) image(out *assembly) {
	r, full := out.images[0], out.entry.name
	if !slices.Contains(p.images, r.id) {
		p.images = append(p.images, r.id)
		a := archived{Config: blobName(r.id), RepoTags: []string{}, Layers: []string{}}
		for _, l := range r.manifest.Layers {
			a.Layers = append(a.Layers, blobName(l.Digest))
		}
		p.docker = append(p.docker, a)
	}
	a := &p.docker[slices.Index(p.images, r.id)]
	d := ocispec.Descriptor{MediaType: out.top.MediaType, Digest: out.top.Digest, Size: out.top.Size}
	if !isIndex(out.top.MediaType) {
		platform := r.config.Platform
		d.Platform = &platform
	}
	if full != "" {
		if slices.Contains(a.RepoTags, familiar(full)) {
			return
		}
		a.RepoTags = append(a.RepoTags, familiar(full))
		d.Annotations = map[string]string{
			annotationImage: full, annotationName: strings.TrimPrefix(full, repository(full)+":"),
		}
	}
	p.index.Manifests = append(p.index.Manifests, d)
}

// blobName is a blob's place in the archive.
func blobName(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

func (s *Store) writeArchive(ctx context.Context, plan *saving, w io.Writer) error {
	tw := tar.NewWriter(w)
	type file struct {
		name    string
		content any
	}
	files := []file{
		{ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}},
		{ocispec.ImageIndexFile, plan.index},
	}
	if plan.docker != nil {
		files = append(files, file{"manifest.json", plan.docker})
	}
	for _, file := range files {
		raw, err := json.Marshal(file.content)
		if err != nil {
			return err
		}
		if err := writeEntry(tw, file.name, int64(len(raw)), bytes.NewReader(raw)); err != nil {
			return err
		}
	}
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: epoch}); err != nil {
			return err
		}
	}
	for _, d := range plan.blobs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.writeBlob(ctx, tw, d); err != nil {
			return err
		}
	}
	return tw.Close()
}

// epoch dates everything in an archive, so that the same images make the same archive.
var epoch = time.Unix(0, 0)

func (s *Store) writeBlob(ctx context.Context, tw *tar.Writer, d ocispec.Descriptor) error {
	size, err := s.blobSize(d)
	if err != nil {
		return err
	}
	r, err := s.openBlob(ctx, d)
	if err != nil {
		return err
	}
	defer r.Close()
	return writeEntry(tw, blobName(d.Digest), size, r)
}

func writeEntry(tw *tar.Writer, name string, size int64, r io.Reader) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: epoch}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(tw, r)
	if err == nil && n != size {
		err = errors.New("the blob's size changed")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
