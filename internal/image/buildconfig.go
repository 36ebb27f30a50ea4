package image

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// finishConfig completes a configuration that a frontend made: the layers, a history that tells of each of them, and when
// things were made, as BuildKit's exporter completes it. Members that are not known here stay as they are.
func (s *Store) finishConfig(img *BuildImage, layers []digest.Digest) ([]byte, error) {
	m := map[string]json.RawMessage{}
	if len(img.Config) > 0 {
		if err := json.Unmarshal(img.Config, &m); err != nil || m == nil {
			return nil, fmt.Errorf("the image's configuration is no JSON object: %w", errdefs.ErrInvalidArgument)
		}
	}
	var known, base ocispec.Image
	if len(img.Config) > 0 {
		if err := json.Unmarshal(img.Config, &known); err != nil {
			return nil, fmt.Errorf("the image's configuration: %w: %w", err, errdefs.ErrInvalidArgument)
		}
	}
	if len(img.Base) > 0 && json.Unmarshal(img.Base, &base) != nil {
		base = ocispec.Image{} // only for telling which rows of the history are whose
	}
	if known.OS == "" || known.Architecture == "" {
		set(m, "os", img.Platform.OS)
		set(m, "architecture", img.Platform.Architecture)
		if img.Platform.Variant != "" {
			set(m, "variant", img.Platform.Variant)
		}
	}
	if _, ok := m["config"]; !ok {
		m["config"] = json.RawMessage("{}")
	}
	history := s.history(known.History, layers)
	if img.Epoch != nil {
		clampHistory(history, base.History, *img.Epoch)
	}
	created := known.Created
	for i := len(history) - 1; created == nil && i >= 0; i-- {
		created = history[i].Created
	}
	if created != nil && img.Epoch != nil && created.After(*img.Epoch) {
		created = img.Epoch
	}
	if layers == nil {
		layers = []digest.Digest{}
	}
	set(m, "rootfs", ocispec.RootFS{Type: "layers", DiffIDs: layers})
	set(m, "history", history)
	set(m, "created", created)
	if len(img.InlineCache) > 0 {
		set(m, "kist.cache.v1", img.InlineCache)
	}
	return json.Marshal(m)
}

// set stores a value of which it is known that it can be marshalled.
func set(m map[string]json.RawMessage, key string, value any) {
	raw, err := json.Marshal(value)
	if err == nil {
		m[key] = raw
	}
}

// history has one row that is not empty for each layer, and a time in each row: that of the row's layer, else that of the
// layer made before, or of the first new one.
func (s *Store) history(rows []ocispec.History, layers []digest.Digest) []ocispec.History {
	out := make([]ocispec.History, 0, len(rows))
	n := 0
	for _, h := range rows {
		if !h.EmptyLayer && n == len(layers) {
			h.EmptyLayer = true
		}
		if !h.EmptyLayer {
			if h.Created == nil {
				h.Created = s.made(layers[n])
			}
			n++
		}
		out = append(out, h)
	}
	for ; n < len(layers); n++ {
		out = append(out, ocispec.History{Created: s.made(layers[n]), CreatedBy: "created by kist", Comment: "buildkit.exporter.image.v0"})
	}
	var first *time.Time // of a new layer; else the last time there is
	gap := false
	for _, h := range out {
		if h.Created == nil {
			gap = true
			continue
		}
		if first = h.Created; gap {
			break
		}
	}
	gap = false
	for i := range out {
		switch {
		case out[i].Created == nil:
			out[i].Created, gap = first, true
		case gap:
			first = out[i].Created
		}
	}
	return out
}

// made is when a layer was made here, if it was.
func (s *Store) made(id digest.Digest) *time.Time {
	if at := s.layers.Created(id); !at.IsZero() {
		return &at
	}
	return nil
}

// clampHistory makes later times the epoch, but for the rows that came with the base image.
func clampHistory(history, base []ocispec.History, epoch time.Time) {
	same := true
	for i := range history {
		if same = same && i < len(base) && reflect.DeepEqual(history[i], base[i]); same {
			continue
		}
		if history[i].Created == nil || history[i].Created.After(epoch) {
			history[i].Created = &epoch
		}
	}
}
