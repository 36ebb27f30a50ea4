package image

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/filter"
)

// List is docker images: the newest first. all adds nameless images that others were made from.
func (s *Store) List(_ context.Context, all, sharedSize bool, f filter.Args) ([]image.Summary, error) {
	if err := f.Validate("dangling", "label", "before", "since", "reference", "until"); err != nil {
		return nil, err
	}
	snap := s.catalog.snapshot()
	match, err := s.matcher(snap, f)
	if err != nil {
		return nil, err
	}
	users := s.inUse()
	list := []image.Summary{}
	var shared map[holding]int
	if sharedSize {
		shared = s.layerUse(snap)
	}
	for _, id := range snap.ids {
		e := snap.of(id)[0]
		r, err := s.record(e.desc)
		if err != nil {
			continue // reachable has warned of it.
		}
		together := snap.together(id)
		tags, digests := tagsAndDigests(snap.names(id))
		if len(tags)+len(digests) == 0 && !all && len(snap.children(id)) > 0 {
			continue
		}
		if tags, digests = match(r, tags, digests); tags == nil {
			continue
		}
		sum := summary(r, snap.parent(id), tags, digests)
		occupied := s.occupied(together)
		sum.Size = occupied.total()
		sum.Containers = 0
		for _, p := range together {
			sum.Containers += int64(len(users[p.id]))
		}
		if sharedSize {
			sum.SharedSize = occupied.shared(shared)
		}
		list = append(list, sum)
	}
	slices.SortStableFunc(list, func(a, b image.Summary) int {
		if a.Created != b.Created {
			return int(min(max(b.Created-a.Created, -1), 1))
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list, nil
}

func summary(r *record, parent digest.Digest, tags, digests []string) image.Summary {
	sum := image.Summary{
		ID: r.id.String(), ParentID: parent.String(), RepoTags: tags, RepoDigests: digests,
		Labels: r.config.Config.Labels, SharedSize: -1, Containers: -1,
	}
	if r.config.Created != nil {
		sum.Created = r.config.Created.Unix()
	}
	if sum.Labels == nil {
		sum.Labels = map[string]string{}
	}
	return sum
}

// holding is something on the disk: a blob, or a part of an unpacked layer. One digest may stand for both.
type holding struct {
	digest   digest.Digest
	unpacked bool
}

// layerUse counts the images that use each layer and blob; what a name stands for is one, whatever its platforms.
func (s *Store) layerUse(snap *snapshot) map[holding]int {
	use := map[holding]int{}
	for _, id := range snap.ids {
		for h := range s.occupied(snap.together(id)) {
			use[h]++
		}
	}
	return use
}

// occupied is what images have on the disk, in bytes, each thing once.
type occupied map[holding]int64

// occupied finds everything of which images need the place on the disk. A blob of the same layer in another compression, which
// another image has, is not theirs.
func (s *Store) occupied(list []part) occupied {
	set := occupied{}
	for _, p := range list {
		r, err := s.record(p.desc)
		if err != nil {
			continue
		}
		set.blobs(s, p.desc.Digest, r.id)
		for _, l := range r.manifest.Layers {
			set.blobs(s, l.Digest)
		}
		for _, l := range r.config.RootFS.DiffIDs {
			s.layers.Parts(l, func(part digest.Digest, n int64) { set[holding{part, true}] = n })
		}
	}
	return set
}

// blobs adds those that are here.
func (o occupied) blobs(s *Store, list ...digest.Digest) {
	for _, d := range list {
		if n, err := s.content.Size(d); err == nil { // Foreign layers need not be here.
			o[holding{d, false}] = n
		}
	}
}

func (o occupied) total() int64 {
	var total int64
	for _, n := range o {
		total += n
	}
	return total
}

// unpacked is the part of the total that no registry has.
func (o occupied) unpacked() int64 {
	var total int64
	for h, n := range o {
		if h.unpacked {
			total += n
		}
	}
	return total
}

// shared is the bytes of what others use as well.
func (o occupied) shared(use map[holding]int) int64 {
	var total int64
	for h, n := range o {
		if use[h] > 1 {
			total += n
		}
	}
	return total
}

// match says whether an image is wanted, and under which of its names; nil tags mean no.
type match func(r *record, tags, digests []string) ([]string, []string)

func (s *Store) matcher(snap *snapshot, f filter.Args) (match, error) {
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return nil, err
	}
	before, err := s.createdOf(snap, f, "before")
	if err != nil {
		return nil, err
	}
	since, err := s.createdOf(snap, f, "since")
	if err != nil {
		return nil, err
	}
	until, err := f.Until(time.Now())
	if err != nil {
		return nil, err
	}
	for _, pattern := range f["reference"] {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("invalid filter 'reference=%s': %w: %w", pattern, err, errdefs.ErrInvalidArgument)
		}
	}
	return func(r *record, tags, digests []string) ([]string, []string) {
		created := time.Time{}
		if r.config.Created != nil {
			created = *r.config.Created
		}
		switch {
		case f.Has("dangling") && dangling != (len(tags) == 0),
			!f.Labels("label", r.config.Config.Labels),
			!before.IsZero() && !created.Before(before),
			!since.IsZero() && !created.After(since),
			!until.IsZero() && !created.Before(until):
			return nil, nil
		}
		if f.Has("reference") {
			tags, digests = matching(f["reference"], tags), matching(f["reference"], digests)
			if len(tags)+len(digests) == 0 {
				return nil, nil
			}
		}
		return tags, digests
	}, nil
}

// matching keeps the names that one of the patterns describes, never nil.
func matching(patterns, names []string) []string {
	kept := []string{}
	for _, n := range names {
		named, err := reference.ParseNormalizedNamed(n)
		if err != nil {
			continue
		}
		if slices.ContainsFunc(patterns, func(p string) bool {
			ok, err := reference.FamiliarMatch(p, named)
			return ok && err == nil
		}) {
			kept = append(kept, n)
		}
	}
	return kept
}

// createdOf is when the image that a filter names was created.
func (s *Store) createdOf(snap *snapshot, f filter.Args, key string) (time.Time, error) {
	if !f.Has(key) {
		return time.Time{}, nil
	}
	e, err := snap.find(f[key][0])
	if err != nil {
		return time.Time{}, err
	}
	r, err := s.record(e.desc)
	if err != nil || r.config.Created == nil {
		return time.Time{}, err
	}
	return *r.config.Created, nil
}
