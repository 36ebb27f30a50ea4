package model

import (
	"slices"

	"github.com/kistdev/kist/internal/typo"
)

// Names are those that there are.
type Names []string

// Check refuses a name of a kind that is none of them, with the nearest one.
func (n Names) Check(kind, name string) error {
	if slices.Contains(n, name) {
		return nil
	}
	sorted := slices.Sorted(slices.Values(n))
	return unknown(kind, name, typo.Nearest(name, sorted), sorted)
}
