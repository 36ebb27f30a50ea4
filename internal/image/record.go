package image

import (
	"encoding/json"
	"fmt"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/registry"
)

// Limits for what is held in memory.
const (
	manifestLimit = 8 << 20
	configLimit   = 8 << 20
	keptBlobs     = 512
)

// record is one image as its blobs tell it. It is never changed.
type record struct {
	id       digest.Digest
	manifest ocispec.Manifest
	desc     ocispec.Descriptor // of the manifest
	config   dockerspec.DockerOCIImage
}

func isManifest(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == registry.MediaTypeDockerManifest
}

func isIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == registry.MediaTypeDockerIndex
}

// record reads an image's manifest and configuration, or remembers them.
func (s *Store) record(d ocispec.Descriptor) (*record, error) {
	return s.records.Read(d.Digest, func() (*record, error) { return s.readRecord(d) })
}

func (s *Store) readRecord(d ocispec.Descriptor) (*record, error) {
	raw, err := s.content.Bytes(d.Digest, manifestLimit)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	m, err := parseManifest(raw)
	if err != nil {
		return nil, err
	}
	raw, err = s.content.Bytes(m.Config.Digest, configLimit)
	if err != nil {
		return nil, fmt.Errorf("read image configuration: %w", err)
	}
	config, err := parseConfig(raw, len(m.Layers))
	if err != nil {
		return nil, err
	}
	return &record{id: m.Config.Digest, manifest: *m, desc: d, config: *config}, nil
}

// mark adds everything that the image needs.
func (r *record) mark(set digests) {
	set.add(r.desc.Digest, r.id)
	for _, l := range r.manifest.Layers {
		set.add(l.Digest)
	}
	set.add(r.config.RootFS.DiffIDs...)
}

// markForeign keeps what other tools' entries reach, as far as it can be read.
func (s *Store) markForeign(d ocispec.Descriptor, set digests, depth int) {
	set.add(d.Digest)
	if depth > 4 || !isManifest(d.MediaType) && !isIndex(d.MediaType) && d.MediaType != mediaTypeArtifact {
		return
	}
	raw, err := s.content.Bytes(d.Digest, manifestLimit)
	if err != nil {
		return
	}
	var m struct {
		Config    ocispec.Descriptor   `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
		Blobs     []ocispec.Descriptor `json:"blobs"`
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if json.Unmarshal(raw, &m) != nil {
		return
	}
	set.add(m.Config.Digest)
	for _, b := range m.Blobs {
		set.add(b.Digest)
	}
	for _, l := range m.Layers {
		set.add(l.Digest)
	}
	for _, child := range m.Manifests {
		s.markForeign(child, set, depth+1)
	}
}

// parseManifest reads an image manifest, OCI or Docker schema 2.
func parseManifest(raw []byte) (*ocispec.Manifest, error) {
	m := new(ocispec.Manifest)
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, fmt.Errorf("read manifest: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if err := checkDescriptor(m.Config); err != nil {
		return nil, fmt.Errorf("manifest's configuration: %w", err)
	}
	for i, l := range m.Layers {
		if err := checkDescriptor(l); err != nil {
			return nil, fmt.Errorf("manifest's layer %d: %w", i, err)
		}
	}
	return m, nil
}

func checkDescriptor(d ocispec.Descriptor) error {
	if err := d.Digest.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w: %w", string(d.Digest), err, errdefs.ErrInvalidArgument)
	}
	if d.Size < 0 {
		return fmt.Errorf("size %d: %w", d.Size, errdefs.ErrInvalidArgument)
	}
	return nil
}

// parseConfig reads an image's configuration, which must describe as many layers as the manifest has.
func parseConfig(raw []byte, layers int) (*dockerspec.DockerOCIImage, error) {
	c := new(dockerspec.DockerOCIImage)
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, notAnImage(fmt.Sprintf("its configuration cannot be read: %v", err))
	}
	if len(c.RootFS.DiffIDs) != layers {
		return nil, notAnImage(fmt.Sprintf("its configuration tells of %d layers, its manifest of %d", len(c.RootFS.DiffIDs), layers))
	}
	for _, d := range c.RootFS.DiffIDs {
		if err := d.Validate(); err != nil {
			return nil, notAnImage(fmt.Sprintf("its configuration has a wrong diff id %q", string(d)))
		}
	}
	return c, nil
}

func notAnImage(cause string) error {
	return &fault.Error{
		Code: "not-an-image", What: "this is no container image", Cause: cause, Class: errdefs.ErrInvalidArgument,
	}
}
