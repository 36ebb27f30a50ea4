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

// Get resolves what a user wrote: a name with or without tag or digest, an id or a unique prefix of one. An unknown one is
// an errdefs.ErrNotFound fault that tells the nearest names.
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
		return nil, &fault.Error{
			Code: "image-damaged", What: "image " + short(e.id) + " is damaged", Cause: err.Error(),
			Try: "remove it (kist rmi -f " + short(e.id) + ") and pull it again", Class: errdefs.ErrDataLoss, Err: err,
		}
	}
	return &Image{
		ID: r.id, Manifest: r.desc, Config: r.config, Layers: r.config.RootFS.DiffIDs,
		Names: snap.names(r.id), Size: r.size,
	}, nil
}

// find looks a reference up, or remembers it.
func (s *snapshot) find(ref string) (entry, error) {
	if found, ok := s.found.Load(ref); ok {
		if i, ok := found.(int); ok {
			return s.entries[i], nil
		}
	}
	i, err := s.lookUp(ref)
	if err != nil {
		return entry{}, err
	}
	if s.foundSize.Add(1) <= keptFound {
		s.found.Store(ref, i)
	}
	return s.entries[i], nil
}

// lookUp finds the entry for a full id, then for a name, then for a prefix of an id.
func (s *snapshot) lookUp(ref string) (int, error) {
	if d := digest.Digest(ref); d.Validate() == nil {
		if list := s.byID[d]; len(list) > 0 {
			return list[0], nil
		}
		return 0, s.notFound(ref)
	}
	full, nameErr := fullName(ref)
	if nameErr == nil {
		if i, ok := s.byName[full]; ok {
			return i, nil
		}
		if base, d, ok := strings.Cut(full, "@"); ok {
			if i := s.byDigest(base, digest.Digest(d)); i >= 0 {
				return i, nil
			}
		}
	}
	if i, err := s.byPrefix(ref); i >= 0 || err != nil {
		return i, err
	}
	if nameErr != nil {
		return 0, nameErr
	}
	return 0, s.notFound(ref)
}

// byDigest finds repository@digest for an image of the repository that has this digest without that name: one that was
// loaded or built here. It is -1 if there is none.
func (s *snapshot) byDigest(base string, d digest.Digest) int {
	return slices.IndexFunc(s.entries, func(e entry) bool {
		return (e.desc.Digest == d || e.source == d || e.id == d) && e.name != "" && repository(e.name) == base
	})
}

// byPrefix finds the one image whose id begins so, or -1.
func (s *snapshot) byPrefix(ref string) (int, error) {
	hex := strings.TrimPrefix(ref, "sha256:")
	if hex == "" || strings.Trim(hex, "0123456789abcdef") != "" {
		return -1, nil
	}
	want := digest.Digest("sha256:" + hex)
	i, _ := slices.BinarySearch(s.ids, want)
	if i == len(s.ids) || !strings.HasPrefix(string(s.ids[i]), string(want)) {
		return -1, nil
	}
	if i+1 < len(s.ids) && strings.HasPrefix(string(s.ids[i+1]), string(want)) {
		return -1, &fault.Error{
			Code: "image-ambiguous", What: fmt.Sprintf("the image id %q is ambiguous", ref), Class: errdefs.ErrInvalidArgument,
			Cause: fmt.Sprintf("it begins %s and %s, among others", short(s.ids[i]), short(s.ids[i+1])), Try: "more digits",
		}
	}
	return s.byID[s.ids[i]][0], nil
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
