package image

import (
	"encoding/json"
	"slices"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A name may stand for several platforms' images. Then its entry is that of the image for this host, as it is for a name of
// one image only, and tells in annotations of the others, and of the index that all of them are from. A store that knows
// nothing of these annotations has the image for the host.

// part is a platform's image beside the one for this host.
type part struct {
	id   digest.Digest
	desc ocispec.Descriptor // the manifest
}

// parts are all images that the entry stands for, the one for this host first.
func (e entry) parts() []part {
	return append([]part{{e.id, e.desc}}, e.others...)
}

// has says whether an image is one of the entry's.
func (e entry) has(id digest.Digest) bool {
	return e.id == id || slices.ContainsFunc(e.others, func(p part) bool { return p.id == id })
}

// manifests are the digests of the images' manifests.
func (e entry) manifests() digests {
	set := digests{}
	for _, p := range e.parts() {
		set.add(p.desc.Digest)
	}
	return set
}

// alone is the entry as if it stood for one of its images only.
func (e entry) alone(p part) entry {
	if e.id != p.id {
		e.parent = ""
	}
	e.id, e.desc, e.index, e.others = p.id, p.desc, ocispec.Descriptor{}, nil
	return e
}

// same says whether two entries stand for the same images, by the same descriptions.
func (e entry) same(o entry) bool {
	return e.desc.Digest == o.desc.Digest && e.index.Digest == o.index.Digest &&
		slices.EqualFunc(e.others, o.others, func(a, b part) bool { return a.desc.Digest == b.desc.Digest })
}

// samePlatforms says whether two entries of one image have the same further ones.
func (e entry) samePlatforms(o entry) bool {
	return slices.EqualFunc(e.others, o.others, func(a, b part) bool { return a.id == b.id })
}

// place is where in a snapshot something is: an entry, and which of its images, counted from 1; 0 is all of them.
type place struct{ entry, part int }

func (s *snapshot) at(p place) entry {
	e := s.entries[p.entry]
	if p.part == 0 {
		return e
	}
	return e.alone(e.parts()[p.part-1])
}

// manifest is the place of an entry's image with a manifest, or a configuration, of that digest.
func (e entry) manifest(d digest.Digest) (which int, ok bool) {
	i := slices.IndexFunc(e.parts(), func(p part) bool { return p.desc.Digest == d || p.id == d })
	if i >= 0 && len(e.others) == 0 {
		return 0, true
	}
	return i + 1, i >= 0
}

// arrange makes one entry of images of several platforms: the one that this host runs best comes first, and of two for the
// same platform the later one stays.
func (s *Store) arrange(e entry, list []part) (entry, error) {
	type known struct {
		part
		platform ocispec.Platform
	}
	var all []known
	for _, p := range list {
		r, err := s.record(p.desc)
		if err != nil {
			return e, err
		}
		k := known{part{r.id, p.desc}, platformOf(p, r)}
		all = slices.DeleteFunc(all, func(o known) bool {
			return o.desc.Digest == k.desc.Digest || platforms.FormatAll(o.platform) == platforms.FormatAll(k.platform)
		})
		all = append(all, k)
	}
	_, here := wanted(nil)
	slices.SortStableFunc(all, func(a, b known) int { return preference(here, a.platform, b.platform) })
	e.id, e.desc, e.others = all[0].id, all[0].desc, nil
	for _, k := range all[1:] {
		e.others = append(e.others, k.part)
	}
	return e, nil
}

// platformOf is what an image is for: as its index says, or its configuration.
func platformOf(p part, r *record) ocispec.Platform {
	if d := p.desc.Platform; d != nil && d.OS != "" && d.Architecture != "" {
		return platforms.Normalize(*d)
	}
	return platforms.Normalize(r.config.Platform)
}

// preference orders platforms: those that a matcher takes come first, the better before the others.
func preference(m platforms.MatchComparer, a, b ocispec.Platform) int {
	fitsA, fitsB := m.Match(a), m.Match(b)
	switch {
	case fitsA && !fitsB, fitsA && m.Less(a, b):
		return -1
	case fitsB && !fitsA, fitsB && m.Less(b, a):
		return 1
	}
	return 0
}

// readParts reads what an annotation tells of further images. What is damaged in it is left out.
func (s *Store) readParts(e *entry, annotations map[string]string) {
	var list []ocispec.Descriptor
	if json.Unmarshal([]byte(annotations[annotationIndex]), &e.index) != nil || checkDescriptor(e.index) != nil || !isIndex(e.index.MediaType) {
		e.index = ocispec.Descriptor{}
	}
	if json.Unmarshal([]byte(annotations[annotationOthers]), &list) != nil {
		return
	}
	for _, d := range list {
		id := digest.Digest(d.Annotations[annotationID])
		d = ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Platform: d.Platform}
		if checkDescriptor(d) != nil || !isManifest(d.MediaType) || e.has(id) {
			continue
		}
		// An older version that opened the store does not keep them.
		if r, err := s.record(d); err == nil && r.id == id {
			e.others = append(e.others, part{id, d})
		}
	}
}

// writeParts is the other direction.
func (e entry) writeParts(annotations map[string]string) {
	write := func(key string, v any) {
		if raw, err := json.Marshal(v); err == nil { // Nothing in it can fail.
			annotations[key] = string(raw)
		}
	}
	if e.index.Digest != "" {
		write(annotationIndex, ocispec.Descriptor{MediaType: e.index.MediaType, Digest: e.index.Digest, Size: e.index.Size})
	}
	if len(e.others) == 0 {
		return
	}
	list := make([]ocispec.Descriptor, len(e.others))
	for i, p := range e.others {
		list[i] = p.desc
		list[i].Annotations = map[string]string{annotationID: p.id.String()}
	}
	write(annotationOthers, list)
}

// each calls fn for every image that some name stands for.
func (s *Store) each(snap *snapshot, fn func(e entry, r *record)) {
	for _, e := range snap.entries {
		for _, p := range e.parts() {
			if r, err := s.record(p.desc); err == nil { // reachable has warned of the others.
				fn(e, r)
			}
		}
	}
}
