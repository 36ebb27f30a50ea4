package image

import (
	"context"
	"time"

	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/storage"
)

// Inspect is docker image inspect.
func (s *Store) Inspect(ctx context.Context, ref string) (*image.InspectResponse, error) {
	img, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	snap := s.catalog.snapshot()
	tags, digests := tagsAndDigests(img.Names)
	config, desc := img.Config.Config, img.Manifest
	r := &image.InspectResponse{
		ID: img.ID.String(), RepoTags: tags, RepoDigests: digests, Author: img.Config.Author, Config: &config,
		Architecture: img.Config.Architecture, Variant: img.Config.Variant, Os: img.Config.OS, OsVersion: img.Config.OSVersion,
		Size: img.Size, GraphDriver: &storage.DriverData{Name: "overlay2", Data: map[string]string{}},
		RootFS: image.RootFS{Type: "layers"}, Descriptor: &desc,
	}
	for _, l := range img.Layers {
		r.RootFS.Layers = append(r.RootFS.Layers, l.String())
	}
	if img.Config.Created != nil {
		r.Created = img.Config.Created.Format(time.RFC3339Nano)
	}
	if n := len(img.Config.History); n > 0 {
		r.Comment = img.Config.History[n-1].Comment
	}
	for _, e := range snap.of(img.ID) {
		if e.tagged.After(r.Metadata.LastTagTime) {
			r.Metadata.LastTagTime = e.tagged
		}
	}
	return r, nil
}
