package image

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"

	"github.com/kistdev/kist/internal/filter"
)

// Search asks a registry for repositories (docker search). limit is 1 to 100.
func (s *Store) Search(ctx context.Context, term string, limit int, auth *registry.AuthConfig, f filter.Args) ([]registry.SearchResult, error) {
	if err := f.Validate("is-automated", "is-official", "stars"); err != nil {
		return nil, err
	}
	if term == "" {
		return nil, fmt.Errorf("search: no term was given: %w", errdefs.ErrInvalidArgument)
	}
	if limit < 1 || limit > 100 {
		return nil, fmt.Errorf("limit %d is outside the range of [1, 100]: %w", limit, errdefs.ErrInvalidArgument)
	}
	automated, err := f.Bool("is-automated", false) // No registry tells any more: what is asked for is not there.
	if err != nil {
		return nil, err
	}
	official, err := f.Bool("is-official", false)
	if err != nil {
		return nil, err
	}
	stars := 0
	for _, text := range f["stars"] {
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("invalid filter 'stars=%s': %w", text, errdefs.ErrInvalidArgument)
		}
		stars = max(stars, n)
	}
	if automated {
		return nil, nil
	}
	list, err := s.client.Search(ctx, term, limit, auth)
	return slices.DeleteFunc(list, func(r registry.SearchResult) bool {
		return f.Has("is-official") && r.IsOfficial != official || r.StarCount < stars
	}), err
}
