package image

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/fault"
)

// Remove removes a name, or an image with all its names by id, and collects what nothing needs any more. An image that a
// container uses, or that another one was made from, keeps its layers when it loses its last name.
func (s *Store) Remove(ctx context.Context, ref string, force, noPrune bool) ([]image.DeleteResponse, error) {
	rm := &removal{s: s, users: s.inUse()}
	err := s.change(func(ed *editor) error {
		rm.ed, rm.list, rm.events = ed, nil, nil
		snap := newSnapshot(slices.Clone(ed.entries), nil)
		e, err := snap.find(ref)
		if err != nil {
			return err
		}
		rm.labels = s.labels(e)
		if full, err := fullName(ref); err == nil && hasName(snap, full) {
			return rm.byName(snap, e, force, noPrune)
		}
		return rm.byID(snap, e, force, noPrune)
	})
	if err != nil {
		return nil, err
	}
	rm.tell()
	if rm.deleted {
		if _, err := s.collect(ctx); err != nil {
			return rm.list, err
		}
	}
	return rm.list, nil
}

func hasName(snap *snapshot, full string) bool { _, ok := snap.byName[full]; return ok }

func (s *Store) labels(e entry) map[string]string {
	r, err := s.record(e.desc)
	if err != nil {
		return nil
	}
	return r.config.Config.Labels
}

// removal is one running Remove or Prune.
type removal struct {
	s       *Store
	ed      *editor
	users   map[digest.Digest][]string
	labels  map[string]string
	list    []image.DeleteResponse
	events  []func()
	deleted bool
}

// byName removes one name, and the image with it if it was the last.
func (rm *removal) byName(snap *snapshot, e entry, force, noPrune bool) error {
	going := goingWith(snap, e)
	last := len(going) == len(snap.names(e.id))
	if users := rm.users[e.id]; last && len(users) > 0 && !force {
		return &fault.Error{
			Code: "image-in-use", Class: errdefs.ErrConflict,
			What: fmt.Sprintf("conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s",
				familiar(e.name), shortContainer(users[0]), short(e.id)),
			Try: "kist rm " + shortContainer(users[0]) + " first, or kist rmi -f, which takes the name only",
		}
	}
	for _, n := range going {
		rm.untag(n, e.id)
	}
	if last {
		rm.drop(e.id, noPrune)
	}
	return nil
}

// goingWith lists what goes with a name: with a repository's last tag also the digests under which that repository has the
// image.
func goingWith(snap *snapshot, e entry) []string {
	going := []string{e.name}
	if isDigestName(e.name) {
		return going
	}
	for _, n := range snap.names(e.id) {
		if n == e.name || repository(n) != repository(e.name) {
			continue
		}
		if !isDigestName(n) {
			return going[:1]
		}
		going = append(going, n)
	}
	return going
}

// byID removes an image with all its names.
func (rm *removal) byID(snap *snapshot, e entry, force, noPrune bool) error {
	names := snap.names(e.id)
	repositories := map[string]bool{}
	for _, n := range names {
		repositories[repository(n)] = true
	}
	if err := rm.conflict(snap, e.id, len(repositories) > 1, force); err != nil {
		return err
	}
	for _, n := range names {
		rm.untag(n, e.id)
	}
	rm.drop(e.id, noPrune)
	return nil
}

func (rm *removal) conflict(snap *snapshot, id digest.Digest, manyRepositories, force bool) error {
	users, children := rm.users[id], snap.children(id)
	f := &fault.Error{Code: "image-in-use", Class: errdefs.ErrConflict}
	switch {
	case len(children) > 0:
		f.Code = "image-has-children"
		f.What = fmt.Sprintf("conflict: unable to delete %s (cannot be forced) - image has dependent child images", short(id))
		f.Cause, f.Try = "image "+short(children[0])+" was made from it", "kist rmi "+short(children[0])+" first"
	case len(users) > 0 && !force:
		f.What = fmt.Sprintf("conflict: unable to delete %s (must be forced) - image is being used by container %s",
			short(id), shortContainer(users[0]))
		f.Try = "kist rm " + shortContainer(users[0]) + " first"
	case manyRepositories && !force:
		f.Code = "image-many-names"
		f.What = fmt.Sprintf("conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories", short(id))
		f.Try = "kist rmi with each name, or kist rmi -f " + short(id)
	default:
		return nil
	}
	return f
}

func (rm *removal) untag(name string, id digest.Digest) {
	rm.ed.untag(name)
	rm.list = append(rm.list, image.DeleteResponse{Untagged: familiar(name)})
	labels := rm.labels
	rm.events = append(rm.events, func() { rm.s.emit(events.ActionUnTag, id.String(), familiar(name), labels) })
}

// drop deletes an image without names, unless something needs it; and then the nameless ones that it was made from.
func (rm *removal) drop(id digest.Digest, noPrune bool) {
	for id != "" {
		now := newSnapshot(rm.ed.entries, nil)
		if len(now.names(id)) > 0 || len(now.children(id)) > 0 || len(rm.users[id]) > 0 {
			return
		}
		parent, gone := now.parent(id), id
		rm.ed.remove(gone)
		rm.deleted = true
		rm.list = append(rm.list, image.DeleteResponse{Deleted: gone.String()})
		labels := rm.labels
		rm.events = append(rm.events, func() { rm.s.emit(events.ActionDelete, gone.String(), gone.String(), labels) })
		if noPrune || parent == "" || len(now.byID[parent]) == 0 {
			return
		}
		id = parent
	}
}

func (rm *removal) tell() {
	for _, emit := range rm.events {
		emit()
	}
}

// shortContainer is a container's id as tables show it.
func shortContainer(id string) string { return id[:min(12, len(id))] }
