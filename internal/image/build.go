package image

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"time"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/kistdev/kist/internal/content"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/registry"
)

// BuildImage is what a build made for one platform.
type BuildImage struct {
	Platform ocispec.Platform
	// Config is the configuration as a frontend makes it: layers are filled in, and the history's times.
	Config []byte
	// Base is the configuration of the image that it was made from; what came with that keeps its times.
	Base []byte
	// Layers are diff ids, the lowest first. They must be held.
	Layers []digest.Digest
	// InlineCache goes into the configuration.
	InlineCache []byte
	// Epoch is SOURCE_DATE_EPOCH: nothing in the configuration is later.
	Epoch *time.Time
	// Attestations become a manifest of their own beside the image's; they make an index necessary.
	Attestations []Attestation
	// Annotations of the manifest, and of its descriptor in the index.
	Annotations, DescriptorAnnotations map[string]string
}

// Attestation is an in-toto statement about an image, whose subjects are filled in.
type Attestation struct {
	PredicateType string
	Predicate     json.RawMessage
	// Subjects are names of the image, as package URLs.
	Subjects []string
}

// BuildOptions for Build and WriteBuild.
type BuildOptions struct {
	// Images by platform, at least one.
	Images []BuildImage
	// Names for the result.
	Names       []string
	Compression Compression
	// DockerTypes uses Docker's media types instead of OCI's.
	DockerTypes bool
	// Rewrite makes layers anew in which nothing is later than the epoch, but for those of the base image.
	Rewrite bool
	// Index makes an index even of one image.
	Index bool
	// IndexAnnotations are the index's own.
	IndexAnnotations map[string]string
	// KeepStatements leaves names as they are that stand for these images already, with attestations of the same kinds. Nobody
	// asked for new ones, and they would tell of another time only.
	KeepStatements bool
	// Stored has blobs written that are not needed for the image to be used here: for outputs that go elsewhere.
	Stored bool
}

// Built is the result of a build.
type Built struct {
	// Image is what was named: of several platforms that of this host, or another one.
	Image *Image
	// Top describes the index, or the manifest if there is no index.
	Top ocispec.Descriptor
	// Manifests describe the images, in the order of the options.
	Manifests []ocispec.Descriptor
	// Configs are their configurations' digests.
	Configs []digest.Digest
}

// Build makes images of layers, and names them; a name stands for all platforms' images then.
func (s *Store) Build(ctx context.Context, o BuildOptions) (*Built, error) {
	names, err := buildNames(o.Names)
	if err != nil {
		return nil, err
	}
	c, err := s.compose(ctx, &o)
	if err != nil {
		return nil, fmt.Errorf("build: %w", content.ExplainFull(s.content.Dir(), err))
	}
	defer c.release()
	e := c.kept
	if e.id == "" {
		if e, err = c.entry(); err != nil {
			return nil, fmt.Errorf("build: %w", err)
		}
	}
	img, err := s.publishBuilt(e, names)
	if err != nil {
		return nil, fmt.Errorf("build: %w", content.ExplainFull(s.content.Dir(), err))
	}
	for _, name := range names {
		s.emit(events.ActionTag, img.ID.String(), reference.FamiliarString(name), img.Config.Config.Labels)
	}
	c.built.Image = img
	return &c.built, nil
}

// entry is what a name of the result stands for.
func (c *composition) entry() (entry, error) {
	var e entry
	if isIndex(c.built.Top.MediaType) {
		e.index = c.built.Top
	}
	list := make([]part, len(c.built.Manifests))
	for i, d := range c.built.Manifests {
		list[i] = part{c.built.Configs[i], d}
	}
	return c.s.arrange(e, list)
}

// publishBuilt names images that were built. If they have the names already, nothing needs to be written.
func (s *Store) publishBuilt(built entry, names []reference.Named) (*Image, error) {
	snap := s.catalog.snapshot()
	other := func(n reference.Named) bool {
		i, ok := snap.byName[n.String()]
		return !ok || !snap.entries[i].same(built)
	}
	if !slices.ContainsFunc(names, other) && slices.ContainsFunc(snap.of(built.id), built.same) {
		return s.image(snap, built)
	}
	return s.publish(built, names)
}

func buildNames(list []string) ([]reference.Named, error) {
	var names []reference.Named
	for _, one := range list {
		named, err := optionalName(one)
		if err != nil {
			return nil, err
		}
		names = append(names, named...)
	}
	return names, nil
}

// native is the image for this host, or the first one.
func native(images []BuildImage) int {
	here := platforms.Only(platforms.DefaultSpec())
	return max(slices.IndexFunc(images, func(b BuildImage) bool { return here.Match(b.Platform) }), 0)
}

// composition is a build's descriptions, in the content store, with what they need held.
type composition struct {
	s      *Store
	lease  *content.Lease
	hold   *layer.Hold
	built  Built
	layers [][]ocispec.Descriptor // of each image
	extra  []ocispec.Descriptor   // attestations' manifests, in the index
	kept   entry                  // what has all the names already
	blobs  []ocispec.Descriptor   // all that are no layers of images, in the order in which they are of use
}

func (c *composition) release() {
	c.hold.Release()
	c.lease.Release()
}

// compose writes everything but names. The composition must be released.
func (s *Store) compose(ctx context.Context, o *BuildOptions) (_ *composition, err error) {
	if err := o.Compression.check(); err != nil {
		return nil, err
	}
	c := &composition{s: s, lease: s.content.Lease(), hold: s.layers.Hold(), layers: make([][]ocispec.Descriptor, len(o.Images))}
	defer func() {
		if err != nil {
			c.release()
		}
	}()
	for i := range o.Images {
		if err := c.image(ctx, o, i); err != nil {
			return nil, err
		}
	}
	if e, ok := c.already(o); ok {
		c.kept, c.built.Top = e, e.index
		return c, nil
	}
	for i := range o.Images {
		if err := c.attest(ctx, &o.Images[i], c.built.Manifests[i]); err != nil {
			return nil, err
		}
	}
	if len(o.Images) == 1 && !o.Index && len(c.extra) == 0 {
		c.built.Top = c.built.Manifests[0]
		return c, nil
	}
	return c, c.index(ctx, o)
}

// image writes one image's configuration and manifest.
func (c *composition) image(ctx context.Context, o *BuildOptions, i int) error {
	img := &o.Images[i]
	c.lease.Hold(img.Layers...)
	ids, err := c.rewritten(ctx, o, img)
	if err != nil {
		return err
	}
	if c.layers[i], err = c.layerBlobs(ctx, o, ids); err != nil {
		return err
	}
	config, err := c.s.finishConfig(img, ids)
	if err != nil {
		return err
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: describe(ocispec.MediaTypeImageConfig, config), Layers: c.layers[i], Annotations: img.Annotations,
	}
	if o.DockerTypes {
		m.MediaType, m.Config.MediaType = registry.MediaTypeDockerManifest, dockerConfig
	}
	if m.Layers == nil {
		m.Layers = []ocispec.Descriptor{}
	}
	if err := c.put(ctx, m.Config, config); err != nil {
		return err
	}
	desc, err := c.putJSON(ctx, m.MediaType, m)
	if err != nil {
		return err
	}
	platform := img.Platform
	desc.Platform = &platform
	c.built.Manifests, c.built.Configs = append(c.built.Manifests, desc), append(c.built.Configs, m.Config.Digest)
	return nil
}

const dockerConfig = "application/vnd.docker.container.image.v1+json"

// rewritten are the image's layers, those that are not the base image's without times later than the epoch if that is
// wanted.
func (c *composition) rewritten(ctx context.Context, o *BuildOptions, img *BuildImage) ([]digest.Digest, error) {
	if !o.Rewrite || img.Epoch == nil {
		return img.Layers, nil
	}
	var base dockerspec.DockerOCIImage
	if len(img.Base) > 0 {
		if err := json.Unmarshal(img.Base, &base); err != nil {
			return nil, fmt.Errorf("read the base image's configuration: %w", err)
		}
	}
	ids := slices.Clone(img.Layers)
	for i, id := range ids {
		if i < len(base.RootFS.DiffIDs) && base.RootFS.DiffIDs[i] == id {
			continue
		}
		clamped, err := c.s.layers.Clamp(ctx, id, *img.Epoch, c.hold)
		if err != nil {
			return nil, err
		}
		c.lease.Hold(clamped)
		ids[i] = clamped
	}
	return ids, nil
}

// layerBlobs makes or finds the layers' blobs, several at a time.
func (c *composition) layerBlobs(ctx context.Context, o *BuildOptions, ids []digest.Digest) ([]ocispec.Descriptor, error) {
	known := c.s.storedBlobs(ids)
	list := make([]ocispec.Descriptor, len(ids))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	first := map[digest.Digest]int{}
	for i, id := range ids {
		if _, ok := first[id]; ok {
			continue
		}
		first[id] = i
		g.Go(func() (err error) {
			list[i], err = c.s.blob(gctx, c.lease, id, known, o.Compression, o.Stored)
			if o.DockerTypes {
				list[i].MediaType = dockerLayer(list[i].MediaType)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, id := range ids {
		list[i] = list[first[id]]
	}
	return list, nil
}

// dockerLayer is Docker's media type for a layer, where there is one.
func dockerLayer(mediaType string) string {
	switch mediaType {
	case ocispec.MediaTypeImageLayer:
		return dockerLayerPlain
	case ocispec.MediaTypeImageLayerGzip:
		return dockerLayerGzip
	}
	return mediaType
}

// index writes the index of all manifests.
func (c *composition) index(ctx context.Context, o *BuildOptions) error {
	index := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Annotations: o.IndexAnnotations,
	}
	if o.DockerTypes {
		index.MediaType = registry.MediaTypeDockerIndex
	}
	for i, d := range c.built.Manifests {
		d.Annotations = maps.Clone(o.Images[i].DescriptorAnnotations)
		index.Manifests = append(index.Manifests, d)
	}
	index.Manifests = append(index.Manifests, c.extra...)
	var err error
	c.built.Top, err = c.putJSON(ctx, index.MediaType, index)
	return err
}

func (c *composition) putJSON(ctx context.Context, mediaType string, v any) (ocispec.Descriptor, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("write %s: %w", mediaType, err)
	}
	d := describe(mediaType, raw)
	return d, c.put(ctx, d, raw)
}

// put stores a description.
func (c *composition) put(ctx context.Context, d ocispec.Descriptor, raw []byte) error {
	c.lease.Hold(d.Digest)
	c.blobs = append(c.blobs, d)
	return c.s.putBlob(ctx, d, raw)
}
