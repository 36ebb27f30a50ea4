package image

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Annotations of index.json's entries.
const (
	annotationName   = ocispec.AnnotationRefName
	annotationImage  = "io.containerd.image.name" // the same name, for tools of containerd
	annotationID     = "dev.kist.image.id"
	annotationSource = "dev.kist.image.source" // the digest that the registry gave for the name
	annotationTagged = "dev.kist.image.tagged"
	annotationParent = "dev.kist.image.parent"
	annotationIndex  = "dev.kist.image.index"  // the descriptor of the index that the image is from
	annotationOthers = "dev.kist.image.others" // the manifests' descriptors of further platforms' images
)

// entry is one name of one image, or an image without a name.
type entry struct {
	name   string
	id     digest.Digest
	desc   ocispec.Descriptor // the manifest
	source digest.Digest
	tagged time.Time
	parent digest.Digest // of an image made here
	// index is what the manifest is from, if that is stored; others are the images for other platforms that are here.
	index  ocispec.Descriptor
	others []part
}

// snapshot is the names at one time. They are never changed.
type snapshot struct {
	entries []entry
	foreign []ocispec.Descriptor // what other tools wrote and we cannot read
	served  []served             // what a registry's clients put here beside images
	byName  map[string]int
	byID    map[digest.Digest][]int
	beside  map[digest.Digest][]place // images for other platforms
	ids     []digest.Digest           // of byID, sorted

	found     sync.Map // entries by what users wrote, so that the same words are not parsed at every run
	foundSize atomic.Int32
}

// keptFound bounds what a snapshot remembers of users' words.
const keptFound = 1024

// catalog is the names, in memory and in index.json.
type catalog struct {
	mu      sync.Mutex // allows one change at a time
	current atomic.Pointer[snapshot]
}

func (c *catalog) snapshot() *snapshot { return c.current.Load() }

func newSnapshot(entries []entry, foreign []ocispec.Descriptor) *snapshot {
	s := &snapshot{entries: entries, foreign: foreign, byName: map[string]int{}, byID: map[digest.Digest][]int{}, beside: map[digest.Digest][]place{}}
	for i, e := range entries {
		if e.name != "" {
			s.byName[e.name] = i
		}
		s.byID[e.id] = append(s.byID[e.id], i)
		for j, p := range e.others {
			s.beside[p.id] = append(s.beside[p.id], place{i, j + 2})
		}
	}
	s.ids = slices.Sorted(maps.Keys(s.byID))
	return s
}

// of lists an image's entries.
func (s *snapshot) of(id digest.Digest) []entry {
	list := make([]entry, 0, len(s.byID[id]))
	for _, i := range s.byID[id] {
		list = append(list, s.entries[i])
	}
	return list
}

// best is the entry of an image that tells most of it.
func (s *snapshot) best(id digest.Digest) (place, bool) {
	if list := s.byID[id]; len(list) > 0 {
		return place{entry: slices.MaxFunc(list, func(a, b int) int { return len(s.entries[a].others) - len(s.entries[b].others) })}, true
	}
	if list := s.beside[id]; len(list) > 0 {
		return list[0], true
	}
	return place{}, false
}

// together are an image, and those for other platforms that some name of it stands for too.
func (s *snapshot) together(id digest.Digest) []part {
	var list []part
	for _, i := range s.byID[id] {
		for _, p := range s.entries[i].parts() {
			if !slices.ContainsFunc(list, func(o part) bool { return o.id == p.id }) {
				list = append(list, p)
			}
		}
	}
	return list
}

// names lists an image's names, sorted.
func (s *snapshot) names(id digest.Digest) []string {
	var list []string
	for _, i := range s.byID[id] {
		if name := s.entries[i].name; name != "" {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// namesOf lists an image's names, or those of the image that it is another platform's of.
func (s *snapshot) namesOf(id digest.Digest) []string {
	list := s.names(id)
	if len(list) > 0 {
		return list
	}
	for _, at := range s.beside[id] {
		if name := s.entries[at.entry].name; name != "" {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// parent is the image that this one was made from here, or empty.
func (s *snapshot) parent(id digest.Digest) digest.Digest {
	for _, i := range s.byID[id] {
		if p := s.entries[i].parent; p != "" {
			return p
		}
	}
	return ""
}

// children lists the images made from this one here.
func (s *snapshot) children(id digest.Digest) []digest.Digest {
	var list []digest.Digest
	for _, e := range s.entries {
		if e.parent == id && !slices.Contains(list, e.id) {
			list = append(list, e.id)
		}
	}
	return list
}

func (s *Store) loadCatalog() error {
	index, err := s.content.Index()
	if err != nil {
		return err
	}
	var (
		entries []entry
		foreign []ocispec.Descriptor
		list    []served
	)
	for _, d := range index.Manifests {
		if v, ok := servedOf(d); ok {
			list = append(list, v)
			continue
		}
		e, err := s.entryOf(d)
		if err != nil {
			slog.Warn("an entry of index.json is not understood; it is left alone", "digest", d.Digest.String(), "err", err)
			foreign = append(foreign, d)
			continue
		}
		entries = append(entries, e)
	}
	snap := newSnapshot(entries, foreign)
	snap.served = list
	s.catalog.current.Store(snap)
	return nil
}

// entryOf reads an entry of index.json, by whomever it was written.
func (s *Store) entryOf(d ocispec.Descriptor) (entry, error) {
	e := entry{
		name: d.Annotations[annotationName], id: digest.Digest(d.Annotations[annotationID]),
		source: digest.Digest(d.Annotations[annotationSource]), parent: digest.Digest(d.Annotations[annotationParent]),
	}
	if err := d.Digest.Validate(); err != nil {
		return entry{}, err
	}
	if !isManifest(d.MediaType) {
		return entry{}, fmt.Errorf("media type %q: %w", d.MediaType, errdefs.ErrNotImplemented)
	}
	if raw := d.Annotations[annotationTagged]; raw != "" {
		e.tagged, _ = time.Parse(time.RFC3339Nano, raw)
	}
	if e.name != "" {
		full, err := fullName(e.name)
		if err != nil {
			return entry{}, err
		}
		e.name = full
	}
	e.desc = ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Platform: d.Platform}
	if e.id.Validate() != nil {
		r, err := s.record(e.desc)
		if err != nil {
			return entry{}, err
		}
		e.id = r.id
	}
	s.readParts(&e, d.Annotations)
	return e, nil
}

func (e entry) descriptor() ocispec.Descriptor {
	d := e.desc
	d.Annotations = map[string]string{annotationID: e.id.String()}
	set := func(key, value string) {
		if value != "" {
			d.Annotations[key] = value
		}
	}
	set(annotationName, e.name)
	set(annotationImage, e.name)
	set(annotationSource, e.source.String())
	set(annotationParent, e.parent.String())
	if !e.tagged.IsZero() {
		set(annotationTagged, e.tagged.Format(time.RFC3339Nano))
	}
	e.writeParts(d.Annotations)
	return d
}

// errUnchanged tells change that there is nothing to write.
var errUnchanged = errors.New("unchanged")

// change edits the list of entries and writes it; when it returns, the change survives a crash.
func (s *Store) change(edit func(*editor) error) error {
	s.catalog.mu.Lock()
	defer s.catalog.mu.Unlock()
	now := s.catalog.snapshot()
	ed := &editor{entries: slices.Clone(now.entries), served: slices.Clone(now.served)}
	if err := edit(ed); err != nil {
		if errors.Is(err, errUnchanged) {
			return nil
		}
		return err
	}
	ed.tidyServed(time.Now())
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	index.Manifests = make([]ocispec.Descriptor, 0, len(ed.entries)+len(ed.served)+len(now.foreign))
	for _, e := range ed.entries {
		index.Manifests = append(index.Manifests, e.descriptor())
	}
	for _, v := range ed.served {
		index.Manifests = append(index.Manifests, v.descriptor())
	}
	index.Manifests = append(index.Manifests, now.foreign...)
	if err := s.content.SetIndex(&index); err != nil {
		return err
	}
	snap := newSnapshot(ed.entries, now.foreign)
	snap.served = ed.served
	s.catalog.current.Store(snap)
	return nil
}
