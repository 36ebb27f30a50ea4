package build

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A cache that leaves the machine is an image: its layers are those that steps made, and its configuration has the records
// beside it. An image with an inline cache is the same with fewer records.

// cacheFile is the records of a cache.
type cacheFile struct {
	Version int           `json:"version"`
	Records []cacheRecord `json:"records"`
}

type cacheRecord struct {
	Key     digest.Digest `json:"key"`
	Name    string        `json:"name"`
	Kind    string        `json:"kind"`
	Created time.Time     `json:"created"`
	Outputs []output      `json:"outputs"`
	// Definition is the step's other key, by which it is found without what it stands on being made, and Results are the
	// identities of its outputs then.
	Definition digest.Digest   `json:"definition,omitempty"`
	Results    []digest.Digest `json:"results,omitempty"`
}

// maxImported bounds the records of one imported cache.
const maxImported = 100_000

// parseCache reads the records in an image's configuration, and the layers that go with its blobs. A configuration without
// records has none.
func parseCache(config []byte, blobs []ocispec.Descriptor) (*cacheFile, map[digest.Digest]ocispec.Descriptor, error) {
	var c struct {
		RootFS ocispec.RootFS `json:"rootfs"`
		Cache  []byte         `json:"kist.cache.v1"` // where the image store puts them
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, nil, fmt.Errorf("read the configuration: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	f := new(cacheFile)
	if len(c.Cache) == 0 {
		return f, nil, nil
	}
	if err := json.Unmarshal(c.Cache, f); err != nil {
		return nil, nil, fmt.Errorf("read the records: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if f.Version != 1 || len(f.Records) > maxImported || len(blobs) != len(c.RootFS.DiffIDs) {
		return nil, nil, fmt.Errorf("records of version %d for %d layers and %d blobs: %w", f.Version, len(c.RootFS.DiffIDs), len(blobs), errdefs.ErrInvalidArgument)
	}
	layers := make(map[digest.Digest]ocispec.Descriptor, len(blobs))
	for i, id := range c.RootFS.DiffIDs {
		layers[id] = blobs[i]
	}
	for _, r := range f.Records {
		if err := r.check(); err != nil {
			return nil, nil, fmt.Errorf("record %s: %w: %w", r.Key, err, errdefs.ErrInvalidArgument)
		}
	}
	return f, layers, nil
}

func (r *cacheRecord) check() error {
	if err := r.Key.Validate(); err != nil {
		return err
	}
	if r.Definition != "" {
		if err := r.Definition.Validate(); err != nil {
			return err
		}
		if len(r.Results) != len(r.Outputs) {
			return fmt.Errorf("%d results for %d outputs", len(r.Results), len(r.Outputs))
		}
	}
	for _, o := range r.Outputs {
		if o.Base < -1 {
			return fmt.Errorf("base %d", o.Base)
		}
		for _, d := range o.Added {
			if err := d.Validate(); err != nil {
				return err
			}
		}
	}
	return nil
}

// cacheOf are the records of this build's steps whose layers are all among those that want lets through, and these layers.
func (j *job) cacheOf(want func(digest.Digest) bool) ([]byte, []digest.Digest, error) {
	f := cacheFile{Version: 1, Records: []cacheRecord{}}
	var layers []digest.Digest
	seen, keys := map[digest.Digest]bool{}, map[digest.Digest]bool{}
	j.mu.Lock()
	steps := append([]*step(nil), j.order...)
	j.mu.Unlock()
	for _, s := range steps {
		select {
		case <-s.done:
		default:
			continue
		}
		row, ok := j.b.cache.get(s.key)
		if s.err != nil || s.key == "" || !ok || keys[s.key] || !row.layers(want) {
			continue
		}
		keys[s.key] = true
		r := cacheRecord{Key: s.key, Name: row.Name, Kind: row.Kind, Created: row.Created, Outputs: row.Outputs}
		if r.Definition, r.Results = s.key, row.Results; len(row.Results) == 0 { // It was not found by its definition.
			r.Definition, r.Results = j.definitionOf(s)
		}
		if len(r.Results) != len(r.Outputs) {
			r.Definition, r.Results = "", nil
		}
		f.Records = append(f.Records, r)
		row.layers(func(d digest.Digest) bool {
			if !seen[d] {
				seen[d] = true
				layers = append(layers, d)
			}
			return true
		})
	}
	raw, err := json.Marshal(f)
	return raw, layers, err
}
