package image

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ociEntry stores what an entry of index.json stands for: an image, or those of an index that the archive holds, for the
// platforms that are wanted.
func (l *loader) ociEntry(ctx context.Context, d ocispec.Descriptor, wish []ocispec.Platform) (entry, error) {
	if isManifest(d.MediaType) {
		desc, config, err := l.ociImage(ctx, d)
		if err != nil {
			return entry{}, err
		}
		return entry{desc: desc}, l.checkWish(config.Platform, wish)
	}
	all, err := l.presentIn(d, 0, digests{})
	if err != nil {
		return entry{}, err
	}
	if whole := slices.DeleteFunc(slices.Clone(all), func(m ocispec.Descriptor) bool { return !l.holds(m) }); len(whole) > 0 {
		all = whole // Some tools leave descriptions in of what they leave out.
	}
	chosen, err := chooseAll(all, wish)
	if err != nil {
		return entry{}, err
	}
	var list []part
	for _, m := range chosen {
		desc, config, err := l.ociImage(ctx, m)
		if err != nil {
			return entry{}, err
		}
		if err := l.checkWish(config.Platform, wish); err != nil {
			return entry{}, err
		}
		desc.Platform = m.Platform
		list = append(list, part{desc: desc})
	}
	e, err := l.s.arrange(entry{}, list)
	if err != nil {
		return entry{}, err
	}
	return e, l.keepIndex(ctx, &e, d)
}

// holds says whether something is an image of which the archive, or the store, has all. What is wrong with one is told when it
// is taken.
func (l *loader) holds(d ocispec.Descriptor) bool {
	raw, err := l.blob(d)
	if err != nil {
		return true
	}
	m, err := parseManifest(raw)
	if err != nil {
		return true
	}
	config, err := l.blob(m.Config)
	if err != nil {
		return false
	}
	if _, err := parseConfig(config, len(m.Layers)); err != nil {
		return false // It is something else, which has come with images.
	}
	for _, layer := range m.Layers {
		name := l.resolve(blobName(layer.Digest))
		if _, small := l.small[name]; l.layers[name] == nil && !small && !l.s.content.Has(layer.Digest) {
			return false
		}
	}
	return true
}

func (l *loader) checkWish(has ocispec.Platform, wish []ocispec.Platform) error {
	if len(wish) == 0 || platforms.Any(wish...).Match(platforms.Normalize(has)) {
		return nil
	}
	return checkPlatform("in the archive", has, &wish[0])
}

// presentIn lists an index's images that the archive holds, each once.
func (l *loader) presentIn(d ocispec.Descriptor, depth int, seen digests) ([]ocispec.Descriptor, error) {
	if !isIndex(d.MediaType) || depth == 4 {
		return nil, notAnImage(fmt.Sprintf("index.json has an entry of the media type %q", d.MediaType))
	}
	_, index, err := l.index(d)
	if err != nil {
		return nil, err
	}
	var present []ocispec.Descriptor
	for _, m := range index.Manifests {
		if err := checkDescriptor(m); err != nil {
			return nil, err
		}
		if _, ok := l.small[l.resolve(blobName(m.Digest))]; !ok || seen.has(m.Digest) || isStatement(m) || m.Platform != nil && m.Platform.OS == "unknown" {
			continue
		}
		seen.add(m.Digest)
		switch {
		case isManifest(m.MediaType):
			present = append(present, m)
		case isIndex(m.MediaType):
			more, err := l.presentIn(m, depth+1, seen)
			if err != nil {
				return nil, err
			}
			present = append(present, more...)
		}
	}
	return present, nil
}

// index reads an index of the archive's.
func (l *loader) index(d ocispec.Descriptor) (raw []byte, index *ocispec.Index, err error) {
	if raw, err = l.blob(d); err != nil {
		return nil, nil, err
	}
	index, err = parseIndex(raw)
	return raw, index, err
}

// chooseAll picks the manifests for the platforms that are wanted; without a wish that is all of them.
func chooseAll(all []ocispec.Descriptor, wish []ocispec.Platform) ([]ocispec.Descriptor, error) {
	index := &ocispec.Index{Manifests: all}
	if len(wish) == 0 {
		if len(all) > 0 {
			return all, nil
		}
		_, err := choose(index, nil) // It says what is missing.
		return nil, err
	}
	var list []ocispec.Descriptor
	for i := range wish {
		d, err := choose(index, &wish[i])
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(list, func(o ocispec.Descriptor) bool { return o.Digest == d.Digest }) {
			list = append(list, d)
		}
	}
	return list, nil
}

// keepIndex stores an index, and what of it tells something about the images that are taken. Of an index of indexes that would
// be none of theirs.
func (l *loader) keepIndex(ctx context.Context, e *entry, d ocispec.Descriptor) error {
	raw, index, err := l.index(d)
	if err != nil {
		return err
	}
	for _, p := range e.parts() {
		if !slices.ContainsFunc(index.Manifests, func(m ocispec.Descriptor) bool { return m.Digest == p.desc.Digest }) {
			return nil
		}
	}
	e.index = ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: int64(len(raw))}
	l.lease.Hold(d.Digest)
	if err := l.s.putBlob(ctx, e.index, raw); err != nil {
		return err
	}
	for _, m := range l.s.statementsOf(*e) {
		if err := l.keepStatement(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// keepStatement stores a manifest that tells something about an image, with its blobs; one that the archive does not have
// whole is left out.
func (l *loader) keepStatement(ctx context.Context, d ocispec.Descriptor) error {
	raw, err := l.blob(d)
	if err != nil {
		return nil //nolint:nilerr // It is not in the archive.
	}
	m, err := parseManifest(raw)
	if err != nil {
		return err
	}
	blobs := map[digest.Digest][]byte{d.Digest: raw}
	for _, b := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if blobs[b.Digest], err = l.blob(b); err != nil {
			return nil //nolint:nilerr // It is not in the archive.
		}
	}
	for at, raw := range blobs {
		l.lease.Hold(at)
		if err := l.s.putBlob(ctx, ocispec.Descriptor{Digest: at, Size: int64(len(raw))}, raw); err != nil {
			return err
		}
	}
	return nil
}
