package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/fault"
)

// images finds out what images the archive describes, and stores their configurations and manifests. An archive with both
// descriptions is taken as an OCI layout: that one has the manifests as they were.
func (l *loader) images(ctx context.Context, wish []ocispec.Platform) ([]toName, error) {
	if raw, ok := l.small[ocispec.ImageIndexFile]; ok {
		index, err := parseIndex(raw)
		if err != nil {
			return nil, err
		}
		list, err := l.ociImages(ctx, index, wish)
		if err != nil || len(list) > 0 {
			return list, err
		}
	}
	if raw, ok := l.small["manifest.json"]; ok {
		return l.dockerImages(ctx, raw, wish)
	}
	return nil, notAnArchive(fmt.Errorf("it has neither manifest.json nor index.json with an image: %w", errdefs.ErrInvalidArgument))
}

func (l *loader) ociImages(ctx context.Context, index *ocispec.Index, wish []ocispec.Platform) ([]toName, error) {
	var list []toName
	for _, d := range index.Manifests {
		e, err := l.ociEntry(ctx, d, wish)
		if err != nil {
			return nil, err
		}
		list = append(list, toName{e, namesOf(d)})
	}
	return list, nil
}

// blob gives a small blob of the archive, verified, or one that is in the store.
func (l *loader) blob(d ocispec.Descriptor) ([]byte, error) {
	if err := checkDescriptor(d); err != nil {
		return nil, err
	}
	raw, ok := l.small[l.resolve(blobName(d.Digest))]
	if !ok {
		raw, err := l.s.content.Bytes(d.Digest, manifestLimit)
		if err != nil {
			return nil, fmt.Errorf("the archive lacks the blob %s: %w", d.Digest, errdefs.ErrInvalidArgument)
		}
		return raw, nil
	}
	if got := d.Digest.Algorithm().FromBytes(raw); got != d.Digest {
		return nil, &fault.Error{
			Code: "blob-corrupt", What: "blob " + d.Digest.String() + " is corrupt", Class: errdefs.ErrDataLoss,
			Cause: "the archive has bytes with the digest " + got.String() + " for it",
		}
	}
	return raw, nil
}

func (l *loader) ociImage(ctx context.Context, d ocispec.Descriptor) (ocispec.Descriptor, *dockerspec.DockerOCIImage, error) {
	none := ocispec.Descriptor{}
	raw, err := l.blob(d)
	if err != nil {
		return none, nil, err
	}
	m, err := parseManifest(raw)
	if err != nil {
		return none, nil, err
	}
	rawConfig, err := l.blob(m.Config)
	if err != nil {
		return none, nil, err
	}
	config, err := parseConfig(rawConfig, len(m.Layers))
	if err != nil {
		return none, nil, err
	}
	desc := ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: int64(len(raw))}
	l.lease.Hold(desc.Digest, m.Config.Digest)
	for i, layer := range m.Layers {
		if err := l.need(ctx, blobName(layer.Digest), layer.Digest, config.RootFS.DiffIDs[i], nil); err != nil {
			return none, nil, err
		}
	}
	if err := l.s.putBlob(ctx, m.Config, rawConfig); err != nil {
		return none, nil, err
	}
	return desc, config, l.s.putBlob(ctx, desc, raw)
}

// need makes sure that a layer is stored and unpacked, and is the one that the configuration tells of. into gets its blob.
func (l *loader) need(ctx context.Context, name string, blob, diffID digest.Digest, into *ocispec.Descriptor) error {
	l.lease.Hold(diffID)
	m := l.layers[l.resolve(name)]
	raw, ok := l.small[l.resolve(name)]
	if m == nil && len(raw) == 0 && into != nil && l.s.layers.Has(diffID) {
		return l.useOld(ctx, diffID, into)
	}
	if m == nil && ok {
		// A layer that does not look like one: an empty tar is nothing but zeros.
		made, err := l.s.storeLayer(ctx, l.lease, bytes.NewReader(raw))
		if err != nil {
			return err
		}
		m = &made
	}
	if m == nil && blob != "" && l.s.content.Has(blob) {
		return l.unpackOld(ctx, blob, diffID)
	}
	if m == nil {
		return fmt.Errorf("the archive lacks the layer %s: %w", name, errdefs.ErrInvalidArgument)
	}
	if blob != "" && m.blob.Digest != blob || m.diffID != diffID {
		return &fault.Error{
			Code: "blob-corrupt", What: "layer " + name + " is corrupt", Class: errdefs.ErrDataLoss,
			Cause: fmt.Sprintf("the image's configuration tells of the diff id %s, the layer has %s", diffID, m.diffID),
		}
	}
	if into != nil {
		*into = m.blob
	}
	return nil
}

// useOld takes a layer that is here for one that the archive has only an empty file of, or none: docker never looks at a layer
// that it has, so buildpacks' pack and its kind do not send it.
func (l *loader) useOld(ctx context.Context, diffID digest.Digest, into *ocispec.Descriptor) (err error) {
	*into, err = l.s.blob(ctx, l.lease, diffID, l.s.storedBlobs([]digest.Digest{diffID}), Compression{}, false)
	return err
}

// unpackOld uses a blob that the archive left out because we have it.
func (l *loader) unpackOld(ctx context.Context, blob, diffID digest.Digest) error {
	l.lease.Hold(blob)
	if l.s.layers.Has(diffID) {
		return nil
	}
	return l.s.unpackBlob(ctx, ocispec.Descriptor{Digest: blob}, diffID)
}

// dockerImages reads manifest.json.
func (l *loader) dockerImages(ctx context.Context, raw []byte, wish []ocispec.Platform) ([]toName, error) {
	var described []archived
	if err := json.Unmarshal(raw, &described); err != nil {
		return nil, notAnArchive(fmt.Errorf("manifest.json: %w", err))
	}
	var list []toName
	for _, a := range described {
		desc, config, err := l.dockerImage(ctx, a)
		if err != nil {
			return nil, err
		}
		if err := l.checkWish(config.Platform, wish); err != nil {
			return nil, err
		}
		n := toName{entry: entry{desc: desc}}
		for _, tag := range a.RepoTags {
			named, err := optionalName(tag)
			if err != nil {
				return nil, err
			}
			n.names = append(n.names, named...)
		}
		list = append(list, n)
	}
	return list, nil
}

func (l *loader) dockerImage(ctx context.Context, a archived) (ocispec.Descriptor, *dockerspec.DockerOCIImage, error) {
	none := ocispec.Descriptor{}
	raw, ok := l.small[l.resolve(a.Config)]
	if !ok {
		return none, nil, fmt.Errorf("the archive lacks the configuration %q: %w", a.Config, errdefs.ErrInvalidArgument)
	}
	config, err := parseConfig(raw, len(a.Layers))
	if err != nil {
		return none, nil, err
	}
	layers := make([]ocispec.Descriptor, len(a.Layers))
	for i, name := range a.Layers {
		if err := l.need(ctx, name, "", config.RootFS.DiffIDs[i], &layers[i]); err != nil {
			return none, nil, err
		}
	}
	desc, err := l.s.putManifest(ctx, l.lease, raw, layers)
	return desc, config, err
}

// namesOf reads an entry's names. A bare word is a tag without a repository, and so no name.
func namesOf(d ocispec.Descriptor) []reference.Named {
	for _, key := range []string{annotationImage, annotationName} {
		raw := d.Annotations[key]
		if !strings.ContainsAny(raw, ":/") {
			continue
		}
		if names, err := optionalName(raw); err == nil {
			return names
		}
	}
	return nil
}
