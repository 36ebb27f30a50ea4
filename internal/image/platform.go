package image

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/fault"
)

// wanted tells which platforms are acceptable, the best first. Without a wish it is what this host runs.
func wanted(wish *ocispec.Platform) (ocispec.Platform, platforms.MatchComparer) {
	if wish == nil {
		p := platforms.DefaultSpec()
		return p, platforms.Only(p)
	}
	p := platforms.Normalize(*wish)
	if p.OS == "" {
		p.OS = platforms.DefaultSpec().OS
	}
	return p, platforms.Only(p)
}

func parseIndex(raw []byte) (*ocispec.Index, error) {
	index := new(ocispec.Index)
	if err := json.Unmarshal(raw, index); err != nil {
		return nil, fmt.Errorf("read index: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return index, nil
}

// choose picks an index's manifest for the platform.
func choose(index *ocispec.Index, wish *ocispec.Platform) (ocispec.Descriptor, error) {
	want, matcher := wanted(wish)
	var (
		fits      []ocispec.Descriptor
		available []string
		unknown   []ocispec.Descriptor
	)
	for _, d := range index.Manifests {
		switch {
		case !isManifest(d.MediaType) && !isIndex(d.MediaType) || checkDescriptor(d) != nil:
			continue
		case d.Platform == nil:
			unknown = append(unknown, d)
			continue
		case d.Platform.OS == "unknown": // attestations
			continue
		}
		available = append(available, platforms.Format(platforms.Normalize(*d.Platform)))
		if matcher.Match(*d.Platform) {
			fits = append(fits, d)
		}
	}
	if len(fits) == 0 && len(available) == 0 && len(unknown) == 1 {
		return unknown[0], nil
	}
	if len(fits) == 0 {
		return ocispec.Descriptor{}, noPlatform(want, available)
	}
	return slices.MinFunc(fits, func(a, b ocispec.Descriptor) int {
		switch {
		case matcher.Less(*a.Platform, *b.Platform):
			return -1
		case matcher.Less(*b.Platform, *a.Platform):
			return 1
		}
		return 0
	}), nil
}

func noPlatform(want ocispec.Platform, available []string) error {
	slices.Sort(available)
	cause, try := "it lists no platform at all", ""
	if available = slices.Compact(available); len(available) > 0 {
		cause, try = "available: "+strings.Join(available, ", "), "--platform "+available[0]
	}
	return &fault.Error{
		Code: "platform-not-available", Cause: cause, Try: try, Class: errdefs.ErrNotFound,
		What:  "no matching manifest for " + platforms.Format(want) + " in the manifest list entries: the image is for other platforms",
		Words: "no matching manifest for " + platforms.Format(want) + " in the manifest list entries",
	}
}

// checkPlatform refuses an image of another platform than the one that was asked for.
func checkPlatform(name string, has ocispec.Platform, wish *ocispec.Platform) error {
	if wish == nil {
		return nil
	}
	want, matcher := wanted(wish)
	if has = platforms.Normalize(has); matcher.Match(has) {
		return nil
	}
	return notHere(name, want, []string{platforms.Format(has)})
}
