package image

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// Delete takes a tag, or everything under a digest, from a repository. Images that lose their last name stay until they are
// pruned, as with docker rmi --no-prune.
func (f *Shelf) Delete(ctx context.Context, repo, ref string) error {
	full, err := repoName(repo)
	if err != nil {
		return err
	}
	d, _ := digest.Parse(ref)
	found := false
	err = f.s.change(func(ed *editor) error {
		for _, name := range f.namesOf(ed, full, ref, d) {
			found = true
			ed.untag(name)
		}
		kept := slices.DeleteFunc(ed.served, func(v served) bool {
			return v.repo == full && (v.tag == ref && d == "" || d != "" && v.desc.Digest == d)
		})
		found = found || len(kept) < len(ed.served)
		ed.served = kept
		if !found {
			return fmt.Errorf("%s in repository %s: %w", ref, repo, errdefs.ErrNotFound)
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = f.s.collect(ctx)
	return err
}

func (f *Shelf) namesOf(ed *editor, full, ref string, d digest.Digest) []string {
	var names []string
	for _, e := range ed.entries {
		if e.name == "" || repository(e.name) != full {
			continue
		}
		if e.name == full+":"+ref || d != "" && (e.desc.Digest == d || e.source == d || e.index.Digest == d) {
			names = append(names, e.name)
		}
	}
	return names
}
