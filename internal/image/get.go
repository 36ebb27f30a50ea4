package image

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/typo"
)

// Get resolves what a user wrote: a name with or without tag or digest, an id or a unique prefix of one. Of several platforms'
// images under a name it is the one for this host. An unknown one is an errdefs.ErrNotFound fault that tells the nearest names.
func (s *Store) Get(_ context.Context, ref string) (*Image, error) {
	snap := s.catalog.snapshot()
	e, err := snap.find(ref)
	if err != nil {
		return nil, err
	}
	return s.image(snap, e)
}

// image makes the resolved form of an entry's image.
func (s *Store) image(snap *snapshot, e entry) (*Image, error) {
	r, err := s.record(e.desc)
	if err != nil {
		return nil, damaged(e.id, err)
	}
	return &Image{
		ID: r.id, Manifest: r.desc, Config: r.config, Layers: r.config.RootFS.DiffIDs, Names: snap.namesOf(r.id),
	}, nil
}

func damaged(id digest.Digest, err error) error {
	cause := err.Error()
	if f, ok := fault.As(err); ok {
		cause = f.What + ": " + f.Cause
	}
	return &fault.Error{
		Code: "image-damaged", What: "image " + short(id) + " is damaged", Cause: cause,
		Try: "load or pull it again, or remove it (kist rmi -f " + short(id) + ")", Class: errdefs.ErrDataLoss, Err: err,
	}
}

// find looks a reference up, or remembers it.
func (s *snapshot) find(ref string) (entry, error) {
	if found, ok := s.found.Load(ref); ok {
		if at, ok := found.(place); ok {
			return s.at(at), nil
		}
	}
	at, err := s.lookUp(ref)
	if err != nil {
		return entry{}, err
	}
	if s.foundSize.Add(1) <= keptFound {
		s.found.Store(ref, at)
	}
	return s.at(at), nil
}

// lookUp finds the entry for a full id, then for a name, then for a prefix of an id.
func (s *snapshot) lookUp(ref string) (place, error) {
	if d := digest.Digest(ref); d.Validate() == nil {
		if at, ok := s.best(d); ok {
			return at, nil
		}
		if at, ok := s.byManifest(d); ok {
			return at, nil
		}
		return place{}, s.notFound(ref)
	}
	full, nameErr := fullName(ref)
	if nameErr == nil {
		if i, ok := s.byName[full]; ok {
			return place{entry: i}, nil
		}
		if base, d, ok := strings.Cut(full, "@"); ok {
			if at, ok := s.byDigest(base, digest.Digest(d)); ok {
				return at, nil
			}
		}
	}
	if at, ok, err := s.byPrefix(ref); ok || err != nil {
		return at, err
	}
	if nameErr != nil {
		return place{}, nameErr
	}
	return place{}, s.notFound(ref)
}

// byDigest finds repository@digest for an image of the repository that has this digest without that name: one that was
// loaded or built here, or is for another platform than this host's.
func (s *snapshot) byDigest(base string, d digest.Digest) (place, bool) {
	for i, e := range s.entries {
		if e.name == "" || repository(e.name) != base {
			continue
		}
		if e.source == d || e.index.Digest == d {
			return place{entry: i}, true
		}
		if which, ok := e.manifest(d); ok {
			return place{i, which}, true
		}
	}
	return place{}, false
}

// byManifest finds what a digest of an index or a manifest describes: tools that know stores of docker's take it for an id.
func (s *snapshot) byManifest(d digest.Digest) (place, bool) {
	for i, e := range s.entries {
		if e.index.Digest == d {
			return place{entry: i}, true
		}
		if which, ok := e.manifest(d); ok {
			return place{i, which}, true
		}
	}
	return place{}, false
}

// byPrefix finds the one image whose id begins so.
func (s *snapshot) byPrefix(ref string) (place, bool, error) {
	hex := strings.TrimPrefix(ref, "sha256:")
	if hex == "" || strings.Trim(hex, "0123456789abcdef") != "" {
		return place{}, false, nil
	}
	want := digest.Digest("sha256:" + hex)
	var found []digest.Digest
	i, _ := slices.BinarySearch(s.ids, want)
	for ; i < len(s.ids) && strings.HasPrefix(string(s.ids[i]), string(want)) && len(found) < 2; i++ {
		found = append(found, s.ids[i])
	}
	for id := range s.beside {
		if len(s.byID[id]) == 0 && strings.HasPrefix(string(id), string(want)) {
			found = append(found, id)
		}
	}
	if len(found) > 1 {
		return place{}, false, &fault.Error{
			Code: "image-ambiguous", What: fmt.Sprintf("the image id %q is ambiguous", ref), Class: errdefs.ErrInvalidArgument,
			Cause: fmt.Sprintf("it begins %s and %s, among others", short(found[0]), short(found[1])), Try: "more digits",
		}
	}
	if len(found) == 0 {
		return place{}, false, nil
	}
	at, ok := s.best(found[0])
	return at, ok, nil
}

// notFound says that there is no such image, and which ones the user may have meant.
func (s *snapshot) notFound(ref string) error {
	what := ref
	if full, err := fullName(ref); err == nil {
		what = familiar(full)
	}
	f := &fault.Error{Code: "image-not-found", What: "No such image: " + what, Class: errdefs.ErrNotFound}
	if near := s.nearest(what); len(near) > 0 {
		f.Cause, f.Try = "there is "+strings.Join(near, ", "), "did you mean "+near[0]+"?"
	}
	return f
}

// nearest lists tags that differ in a few letters, or in the tag or the place only.
func (s *snapshot) nearest(name string) []string {
	var near []string
	for _, e := range s.entries {
		if e.name == "" || isDigestName(e.name) {
			continue
		}
		other := familiar(e.name)
		most := max(2, len(name)/5)
		same := path.Base(repository(other)) == path.Base(repository(name))
		if same || typo.Distance(name, other, most) <= most {
			near = append(near, other)
		}
	}
	return typo.Rank(name, near, 3)
}
