package volume

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/volume"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/filter"
)

// Remove removes a volume. One in use is an errdefs.ErrConflict that names the container; one that is not there is an
// error only without force.
func (s *Store) Remove(ctx context.Context, name string, force bool) error {
	s.mu.Lock()
	e, err := s.get(name)
	s.mu.Unlock()
	if err == nil && mounted(e.Options) {
		s.dropEnded(e)
		err = s.unmountIdle(e)
	}
	if err != nil {
		if force && errdefs.IsNotFound(err) {
			return nil
		}
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.volumes[name] != e: // somebody else removed it
		return nil
	case len(e.uses) > 0:
		return &fault.Error{
			Code: "volume-in-use", What: fmt.Sprintf("remove %s: volume is in use - [%s]", name, s.usersOf(e)),
			Try: "kist ps -a --filter volume=" + name + ", then kist rm those containers", Class: errdefs.ErrConflict,
		}
	case len(e.mounts) > 0:
		return fmt.Errorf("remove %s: volume is in use - something is being copied: %w", name, errdefs.ErrConflict)
	}
	return s.remove(e)
}

// dropEnded takes the containers off the list of who has the volume mounted that use it no longer: their own unmounting may
// not have come to it yet.
func (s *Store) dropEnded(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(e.mounts, func(user string, _ bool) bool { return !e.uses[user] && !isMoment(user) })
}

// usersOf says who uses a volume, as docker does, and with the names that people know.
func (s *Store) usersOf(e *entry) string {
	list := slices.Sorted(maps.Keys(e.uses))
	for i, id := range list {
		if s.NameOf == nil {
			continue
		}
		if name := s.NameOf(id); name != "" {
			list[i] += " (" + name + ")"
		}
	}
	return strings.Join(list, ", ")
}

// remove removes an unused volume. The caller holds the lock.
func (s *Store) remove(e *entry) error {
	if err := s.unmake(e); err != nil {
		return fmt.Errorf("remove volume %s: %w", e.name, err)
	}
	delete(s.volumes, e.name)
	s.emit(events.ActionDestroy, e)
	return nil
}

// Prune removes unused volumes: anonymous ones, or all with the filter all=1.
func (s *Store) Prune(ctx context.Context, f filter.Args) (volume.PruneReport, error) {
	report := volume.PruneReport{VolumesDeleted: []string{}}
	if err := f.Validate("all", "label", "label!"); err != nil {
		return report, err
	}
	all, err := f.Bool("all", false)
	if err != nil {
		return report, err
	}
	for _, name := range s.prunable(f, all) {
		if err := ctx.Err(); err != nil {
			return report, err
		}
		size, err := s.Size(name)
		if err != nil {
			continue // somebody else removed it
		}
		if s.Remove(ctx, name, false) != nil {
			continue // a container uses it by now
		}
		report.VolumesDeleted = append(report.VolumesDeleted, name)
		report.SpaceReclaimed += uint64(size)
	}
	if s.bus != nil {
		s.bus.Emit(events.VolumeEventType, events.ActionPrune, "", map[string]string{"reclaimed": strconv.FormatUint(report.SpaceReclaimed, 10)})
	}
	return report, nil
}

// prunable are the names of the unused volumes that match.
func (s *Store) prunable(f filter.Args, all bool) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name, e := range s.volumes {
		if len(e.uses) > 0 || !all && !e.anonymous() {
			continue
		}
		if !f.Labels("label", e.Labels) || f.Has("label!") && f.Labels("label!", e.Labels) {
			continue
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
