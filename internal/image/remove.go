package image

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/fault"
)

// Remove removes a name, or an image with all its names by id, and collects what nothing needs any more. An image that a
// container uses, or that another one was made from, keeps its layers when it loses its last name.
func (s *Store) Remove(ctx context.Context, ref string, force, noPrune bool) ([]image.DeleteResponse, error) {
	return s.RemovePlatforms(ctx, ref, nil, force, noPrune)
}

// RemovePlatforms removes the images for some platforms only of those that a name stands for; the others keep the name. Without
// platforms, or with all that are here, it is Remove.
func (s *Store) RemovePlatforms(ctx context.Context, ref string, wish []ocispec.Platform, force, noPrune bool) ([]image.DeleteResponse, error) {
	rm := &removal{s: s, users: s.inUse()}
	err := s.change(func(ed *editor) error {
		rm.ed, rm.list, rm.events, rm.deleted = ed, nil, nil, false
		snap := newSnapshot(slices.Clone(ed.entries), nil)
		e, err := snap.find(ref)
		if err != nil {
			return err
		}
		rm.labels = s.labels(e)
		going, err := s.chosen(e, ref, wish)
		if err != nil {
			return err
		}
		whole := len(going.others) == len(e.others)
		full, err := fullName(ref)
		named := err == nil && hasName(snap, full)
		switch {
		case whole && named:
			return rm.byName(snap, e, force, noPrune)
		case whole && len(snap.byID[e.id]) > 0 && (len(e.others) > 0 || len(snap.together(e.id)) == 1):
			return rm.byID(snap, e, force, noPrune)
		case named:
			return rm.fromNames(going.parts(), goingWith(snap, e), force)
		}
		for _, p := range going.parts() {
			if err := rm.conflict(snap, p.id, false, force); err != nil {
				return err
			}
		}
		return rm.fromNames(going.parts(), nil, force)
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
	if users := rm.usersOf(e); last && len(users) > 0 && !force {
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
	rm.dropOthers(e, noPrune)
	return nil
}

// usersOf lists the containers of an entry's images.
func (rm *removal) usersOf(e entry) []string {
	var users []string
	for _, p := range e.parts() {
		users = append(users, rm.users[p.id]...)
	}
	return users
}

// dropOthers deletes the images for other platforms that have lost their last name with an entry.
func (rm *removal) dropOthers(e entry, noPrune bool) {
	for _, p := range e.others {
		if slices.ContainsFunc(rm.ed.entries, func(o entry) bool { return o.id == p.id }) {
			rm.drop(p.id, noPrune)
		}
	}
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
	e.others = nil
	for _, p := range snap.together(e.id) {
		if p.id != e.id {
			e.others = append(e.others, p)
		}
	}
	repositories := map[string]bool{}
	for _, n := range names {
		repositories[repository(n)] = true
	}
	for _, p := range e.parts() {
		if err := rm.conflict(snap, p.id, len(repositories) > 1, force); err != nil {
			return err
		}
	}
	for _, n := range names {
		rm.untag(n, e.id)
	}
	rm.drop(e.id, noPrune)
	rm.dropOthers(e, noPrune)
	return nil
}

// fromNames takes images away from names that stand for others beside them; without names, from all that do.
func (rm *removal) fromNames(list []part, names []string, force bool) error {
	leaves := func(p part) bool { return slices.ContainsFunc(list, func(o part) bool { return o.id == p.id }) }
	for i, e := range rm.ed.entries {
		left := slices.DeleteFunc(e.parts(), leaves)
		if len(left) == 0 || len(left) == len(e.others)+1 || len(names) > 0 && !slices.Contains(names, e.name) {
			continue
		}
		rest, err := rm.s.arrange(e, left)
		if err != nil {
			return err
		}
		if rest.id != e.id {
			rest.parent = ""
		}
		rest.source = "" // It is no longer all that a registry has, or had, under the name.
		rm.ed.entries[i] = rest
		for _, p := range e.parts() {
			if leaves(p) && e.name != "" && !isDigestName(e.name) {
				rm.list = append(rm.list, image.DeleteResponse{Untagged: familiar(repository(e.name) + "@" + p.desc.Digest.String())})
			}
		}
	}
	for _, p := range list {
		users := rm.users[p.id]
		switch {
		case rm.ed.has(p.id):
		case len(users) > 0 && !force:
			return rm.inUse(p.id, users)
		case len(users) > 0:
			rm.ed.settle(entry{id: p.id, desc: p.desc})
		default:
			rm.gone(p.id)
		}
	}
	return nil
}

// inUse refuses to remove an image that a container was made of.
func (rm *removal) inUse(id digest.Digest, users []string) error {
	return &fault.Error{
		Code: "image-in-use", Class: errdefs.ErrConflict, Try: "kist rm " + shortContainer(users[0]) + " first",
		What: fmt.Sprintf("conflict: unable to delete %s (must be forced) - image is being used by container %s", short(id), shortContainer(users[0])),
	}
}

// gone tells that an image is no more.
func (rm *removal) gone(id digest.Digest) {
	rm.deleted = true
	rm.list = append(rm.list, image.DeleteResponse{Deleted: id.String()})
	labels := rm.labels
	rm.events = append(rm.events, func() { rm.s.emit(events.ActionDelete, id.String(), id.String(), labels) })
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
		return rm.inUse(id, users)
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
		list := now.together(id)
		needed := func(p part) bool { return len(now.children(p.id)) > 0 || len(rm.users[p.id]) > 0 }
		if len(now.names(id)) > 0 || len(now.beside[id]) > 0 || slices.ContainsFunc(list, needed) {
			return
		}
		parent := now.parent(id)
		rm.ed.remove(id)
		for _, p := range list {
			if !rm.ed.has(p.id) {
				rm.gone(p.id)
			}
		}
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
