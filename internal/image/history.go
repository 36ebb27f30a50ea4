package image

import (
	"context"

	"github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// History is docker history, of the image for a platform: the newest step first. Steps that made no layer have no size.
func (s *Store) History(ctx context.Context, ref string, wish *ocispec.Platform) ([]image.HistoryResponseItem, error) {
	img, err := s.For(ctx, ref, wish)
	if err != nil {
		return nil, err
	}
	var list []image.HistoryResponseItem
	layers := img.Layers
	for _, h := range img.Config.History {
		item := image.HistoryResponseItem{ID: "<missing>", Comment: h.Comment, CreatedBy: h.CreatedBy}
		if h.Created != nil {
			item.Created = h.Created.Unix()
		}
		if !h.EmptyLayer && len(layers) > 0 {
			item.Size, _ = s.layers.Size(layers[0]) // A layer that is gone has no size.
			layers = layers[1:]
		}
		list = append(list, item)
	}
	for _, l := range layers { // Tools may leave the history out.
		item := image.HistoryResponseItem{ID: "<missing>"}
		item.Size, _ = s.layers.Size(l)
		list = append(list, item)
	}
	if len(list) == 0 {
		list = append(list, image.HistoryResponseItem{})
	}
	for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
		list[i], list[j] = list[j], list[i]
	}
	list[0].ID = img.ID.String()
	list[0].Tags, _ = tagsAndDigests(img.Names)
	return list, nil
}
