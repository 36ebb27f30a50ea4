package image

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/content"
)

// Shelf is the store as a registry hands it out and takes things in: repositories, tags, manifests, blobs. A repository is
// called what the images on this machine are called: "app" is the image app, "example.org/app" is example.org/app.
//
// What is pushed and is an image gets its name here like one that was pulled; indexes, artifacts and what refers to others
// are kept beside them (see served). A blob that was uploaded, or asked for, stays for a while without being named.
type Shelf struct {
	s *Store

	mu      sync.Mutex // guards what follows
	leases  [2]*content.Lease
	renewed time.Time
}

// shelfGrace is how long at least a blob stays that no manifest names yet; twice as long at most.
const shelfGrace = 30 * time.Minute

// Shelf opens the store for a registry. It must be closed.
func (s *Store) Shelf() *Shelf {
	return &Shelf{s: s, leases: [2]*content.Lease{s.content.Lease(), s.content.Lease()}, renewed: time.Now()}
}

// Close gives up what no manifest names.
func (f *Shelf) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.leases {
		l.Release()
	}
}

// lease is what holds blobs for the next half hour.
func (f *Shelf) lease() *content.Lease {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.renewed) > shelfGrace {
		f.leases[0].Release()
		f.leases[0], f.leases[1] = f.leases[1], f.s.content.Lease()
		f.renewed = time.Now()
	}
	return f.leases[1]
}

// repo is the full name of a repository. What the registry's clients may ask for is no more than what an image may be called.
func repoName(repo string) (string, error) {
	named, err := reference.ParseNormalizedNamed(repo)
	if err != nil || !reference.IsNameOnly(named) {
		return "", fmt.Errorf("repository name %q: %w", repo, errdefs.ErrInvalidArgument)
	}
	return named.Name(), nil
}

// Repositories lists all of them, by the short names that users write, sorted.
func (f *Shelf) Repositories() []string {
	snap := f.s.catalog.snapshot()
	var list []string
	for _, e := range snap.entries {
		if e.name != "" {
			list = append(list, familiar(repository(e.name)))
		}
	}
	for _, v := range snap.served {
		list = append(list, familiar(v.repo))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Tags lists a repository's tags, sorted. A repository of which nothing is here is an errdefs.ErrNotFound.
func (f *Shelf) Tags(repo string) ([]string, error) {
	full, err := repoName(repo)
	if err != nil {
		return nil, err
	}
	snap, known := f.s.catalog.snapshot(), false
	list := []string{}
	for _, e := range snap.entries {
		if e.name == "" || repository(e.name) != full {
			continue
		}
		known = true
		if !isDigestName(e.name) {
			list = append(list, strings.TrimPrefix(e.name, full+":"))
		}
	}
	for _, v := range snap.served {
		if v.repo != full {
			continue
		}
		known = true
		if v.tag != "" && v.current(snap.entries) {
			list = append(list, v.tag)
		}
	}
	if !known {
		return nil, fmt.Errorf("repository %s: %w", repo, errdefs.ErrNotFound)
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// Manifest returns what a tag or digest stands for in a repository, as it was written.
func (f *Shelf) Manifest(repo, ref string) (ocispec.Descriptor, []byte, error) {
	none := ocispec.Descriptor{}
	full, err := repoName(repo)
	if err != nil {
		return none, nil, err
	}
	d, ok := f.find(full, ref)
	if !ok {
		return none, nil, fmt.Errorf("%s in repository %s: %w", ref, repo, errdefs.ErrNotFound)
	}
	raw, err := f.s.content.Bytes(d.Digest, manifestLimit)
	if err != nil {
		return none, nil, err
	}
	d.Size = int64(len(raw))
	return d, raw, nil
}

func (f *Shelf) find(full, ref string) (ocispec.Descriptor, bool) {
	snap := f.s.catalog.snapshot()
	if d, err := digest.Parse(ref); err == nil {
		return f.findDigest(snap, full, d)
	}
	for _, v := range snap.served {
		if v.repo == full && v.tag == ref && v.current(snap.entries) {
			return v.desc, true
		}
	}
	if i, ok := snap.byName[full+":"+ref]; ok {
		e := snap.entries[i]
		if f.s.wholeIndex(e) {
			return e.index, true
		}
		return e.desc, true
	}
	return ocispec.Descriptor{}, false
}

// findDigest finds a manifest of the repository by its digest, in indexes too.
func (f *Shelf) findDigest(snap *snapshot, full string, d digest.Digest) (ocispec.Descriptor, bool) {
	for _, e := range snap.entries {
		if e.name == "" || repository(e.name) != full {
			continue
		}
		if e.index.Digest == d && f.s.wholeIndex(e) {
			return e.index, true
		}
		for _, p := range e.parts() {
			if p.desc.Digest == d {
				return p.desc, true
			}
		}
		for _, m := range f.s.statementsOf(e) {
			if m.Digest == d && f.s.content.Has(d) {
				return ocispec.Descriptor{MediaType: m.MediaType, Digest: d, Size: m.Size}, true
			}
		}
	}
	for _, v := range snap.served {
		if v.repo != full {
			continue
		}
		if v.desc.Digest == d {
			return v.desc, true
		}
		if found, ok := f.inIndex(v.desc, d, 0); ok {
			return found, true
		}
	}
	return ocispec.Descriptor{}, false
}

func (f *Shelf) inIndex(index ocispec.Descriptor, d digest.Digest, depth int) (ocispec.Descriptor, bool) {
	if !isIndex(index.MediaType) || depth > 3 {
		return ocispec.Descriptor{}, false
	}
	for _, m := range f.children(index) {
		if m.Digest == d && f.s.content.Has(d) {
			return ocispec.Descriptor{MediaType: m.MediaType, Digest: d, Size: m.Size}, true
		}
		if found, ok := f.inIndex(m, d, depth+1); ok {
			return found, true
		}
	}
	return ocispec.Descriptor{}, false
}

// children are an index's manifests; none of one that cannot be read.
func (f *Shelf) children(index ocispec.Descriptor) []ocispec.Descriptor {
	raw, err := f.s.content.Bytes(index.Digest, manifestLimit)
	if err != nil {
		return nil
	}
	parsed, err := parseIndex(raw)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(parsed.Manifests, func(d ocispec.Descriptor) bool { return checkDescriptor(d) != nil })
}

// Referrers lists what was pushed to the repository about a manifest, as an index describes it.
func (f *Shelf) Referrers(repo string, subject digest.Digest) ([]ocispec.Descriptor, error) {
	full, err := repoName(repo)
	if err != nil {
		return nil, err
	}
	list := []ocispec.Descriptor{}
	seen := digests{}
	for _, v := range f.s.catalog.snapshot().served {
		if v.repo != full || v.subject != subject || seen.has(v.desc.Digest) {
			continue
		}
		seen.add(v.desc.Digest)
		raw, err := f.s.content.Bytes(v.desc.Digest, manifestLimit)
		if err != nil {
			return nil, err
		}
		var m manifestFace
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, fmt.Errorf("read manifest %s: %w", v.desc.Digest, err)
		}
		d := v.desc
		d.ArtifactType, d.Annotations = m.artifactType(), m.Annotations
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b ocispec.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
	return list, nil
}

// manifestFace is what manifests and indexes say of themselves.
type manifestFace struct {
	MediaType    string               `json:"mediaType"`
	ArtifactType string               `json:"artifactType"`
	Config       *ocispec.Descriptor  `json:"config"`
	Layers       []ocispec.Descriptor `json:"layers"`
	Blobs        []ocispec.Descriptor `json:"blobs"`
	Manifests    []ocispec.Descriptor `json:"manifests"`
	Subject      *ocispec.Descriptor  `json:"subject"`
	Annotations  map[string]string    `json:"annotations"`
}

// artifactType is what a list of referrers calls it.
func (m *manifestFace) artifactType() string {
	if m.ArtifactType == "" && m.Config != nil {
		return m.Config.MediaType
	}
	return m.ArtifactType
}
