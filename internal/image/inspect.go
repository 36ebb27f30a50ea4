package image

import (
	"context"
	"time"

	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/storage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Inspect is docker image inspect, of the image for a platform; nil is the one for this host, and the size that of all.
func (s *Store) Inspect(_ context.Context, ref string, wish *ocispec.Platform) (*image.InspectResponse, error) {
	snap := s.catalog.snapshot()
	e, err := snap.find(ref)
	if err == nil && wish != nil {
		e, err = s.pick(e, ref, wish)
	}
	if err != nil {
		return nil, err
	}
	img, err := s.image(snap, e)
	if err != nil {
		return nil, err
	}
	tags, digests := tagsAndDigests(img.Names)
	config, desc := img.Config.Config, img.Manifest
	if len(e.others) > 0 && e.index.Digest != "" {
		desc = e.index
	}
	r := &image.InspectResponse{
		ID: img.ID.String(), RepoTags: tags, RepoDigests: digests, Author: img.Config.Author, Config: &config,
		Architecture: img.Config.Architecture, Variant: img.Config.Variant, Os: img.Config.OS, OsVersion: img.Config.OSVersion,
		Size: s.occupied(e.parts()).total(), GraphDriver: &storage.DriverData{Name: "overlay2", Data: map[string]string{}},
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
