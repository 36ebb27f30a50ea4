package volume

import (
	"context"
	"maps"
	"slices"

	"github.com/moby/moby/api/types/volume"

	"github.com/kistdev/kist/internal/filter"
)

// Inspect returns a volume, or errdefs.ErrNotFound.
func (s *Store) Inspect(ctx context.Context, name string) (*volume.Volume, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.get(name)
	if err != nil {
		return nil, err
	}
	return s.show(e), nil
}

// List is docker volume ls, by name; the second value holds warnings.
func (s *Store) List(ctx context.Context, f filter.Args) ([]volume.Volume, []string, error) {
	if err := f.Validate("dangling", "driver", "label", "name"); err != nil {
		return nil, nil, err
	}
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []volume.Volume{}
	for _, name := range slices.Sorted(maps.Keys(s.volumes)) {
		e := s.volumes[name]
		if f.Has("dangling") && dangling != (len(e.uses) == 0) {
			continue
		}
		if f.Match("name", name) && f.Exact("driver", driverLocal) && f.Labels("label", e.Labels) {
			list = append(list, *s.show(e))
		}
	}
	return list, nil, nil
}
