package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/kistdev/kist/internal/image"
)

// imported is a cache that came from elsewhere. Its layers stay there until a step's result is wanted.
type imported struct {
	j       *job
	records map[digest.Digest]*record
	defined map[digest.Digest]*record // by the steps' definitions
	blobs   map[digest.Digest]ocispec.Descriptor
	open    func(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error)
}

// fetch brings the layers of a record here. There may be none, as nil says.
func (im *imported) fetch(ctx context.Context, row *record) (*record, error) {
	if row == nil {
		return nil, nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	row.layers(func(id digest.Digest) bool {
		if !im.j.hold.Take(id) {
			g.Go(func() error { return im.layer(ctx, id) })
		}
		return true
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	fresh := *row
	fresh.Used, fresh.Uses = time.Now(), 1
	for _, o := range row.Outputs {
		fresh.Size += im.j.b.sizeOf(o.Added)
	}
	return &fresh, nil
}

func (im *imported) layer(ctx context.Context, id digest.Digest) error {
	d, ok := im.blobs[id]
	if !ok {
		return fmt.Errorf("the cache lacks the layer %s: %w", id, errdefs.ErrNotFound)
	}
	r, err := im.open(ctx, d)
	if err != nil {
		return err
	}
	// What is unpacked is verified: its digest is the layer's name.
	err = im.j.b.cfg.Images.PutLayer(ctx, id, d, r, im.j.hold)
	return errors.Join(err, r.Close())
}

// addImports opens caches, each once in a build. One that cannot be had is a warning: the build does without.
func (j *job) addImports(ctx context.Context, entries []gwclient.CacheOptionsEntry) error {
	for _, e := range entries {
		name := e.Type + " " + fmt.Sprint(e.Attrs)
		j.mu.Lock()
		known := slices.Contains(j.imported, name)
		if !known {
			j.imported = append(j.imported, name)
		}
		j.mu.Unlock()
		if known {
			continue
		}
		var open func(context.Context, map[string]string) error
		what := e.Attrs["ref"]
		switch e.Type {
		case "registry":
			open = j.importRegistry
		case "local":
			open, what = j.importLocal, e.Attrs["src"]
		default:
			return fmt.Errorf("caches of type %q: %w", e.Type, errdefs.ErrNotImplemented)
		}
		t := j.progress.internal("importing cache manifest from " + what)
		err := open(ctx, e.Attrs)
		t.end(err)
		if err != nil && j.ctx.Err() != nil {
			return context.Cause(j.ctx)
		}
	}
	return nil
}

func (j *job) importRegistry(ctx context.Context, attrs map[string]string) error {
	named, err := reference.ParseNormalizedNamed(attrs["ref"])
	if err != nil {
		return fmt.Errorf("ref=%s: %w: %w", attrs["ref"], err, errdefs.ErrInvalidArgument)
	}
	auth, err := j.credentials(ctx, named)
	if err != nil {
		return err
	}
	parts, err := j.b.cfg.Images.Parts(ctx, reference.TagNameOnly(named).String(), image.PullOptions{Auth: auth})
	if err != nil {
		return err
	}
	j.atEnd(parts.Close)
	im := &imported{j: j, open: func(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) { return parts.Open(ctx, d), nil }}
	for _, p := range parts.Images {
		if err := im.add(p.Config, p.Layers); err != nil {
			return err
		}
	}
	return j.use(im, attrs["ref"])
}

// add takes the records of one image.
func (im *imported) add(config []byte, blobs []ocispec.Descriptor) error {
	f, layers, err := parseCache(config, blobs)
	if err != nil {
		return err
	}
	if im.records == nil {
		im.records, im.defined, im.blobs = map[digest.Digest]*record{}, map[digest.Digest]*record{}, map[digest.Digest]ocispec.Descriptor{}
	}
	maps.Copy(im.blobs, layers)
	for _, r := range f.Records {
		row := record{Outputs: r.Outputs, Name: r.Name, Kind: r.Kind, Created: r.Created}
		im.records[r.Key] = &row
		if r.Definition != "" {
			defined := row
			defined.Results = r.Results
			im.defined[r.Definition] = &defined
		}
	}
	return nil
}

func (j *job) use(im *imported, from string) error {
	if len(im.records) == 0 {
		return fmt.Errorf("%s holds no cache of kist: %w", from, errdefs.ErrNotFound)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.imports = append(j.imports, im)
	return nil
}

// importLocal reads an OCI layout of the client.
func (j *job) importLocal(ctx context.Context, attrs map[string]string) error {
	if j.req.Session == nil {
		return fmt.Errorf("there is no client to ask for %s: %w", attrs["src"], errdefs.ErrFailedPrecondition)
	}
	store := "local:" + attrs["src"]
	read := func(d string) ([]byte, error) {
		r, err := j.req.Session.Content(ctx, store, d)
		if err != nil {
			return nil, err
		}
		raw, err := io.ReadAll(io.LimitReader(r, maxRead))
		return raw, errors.Join(err, r.Close())
	}
	var top digest.Digest
	if attrs["digest"] != "" {
		top = digest.Digest(attrs["digest"])
	} else {
		raw, err := read("")
		if err != nil {
			return err
		}
		if top, err = newest(raw, attrs["tag"]); err != nil {
			return err
		}
	}
	im := &imported{j: j, open: func(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
		return j.req.Session.Content(ctx, store, d.Digest.String())
	}}
	if err := im.descend(top, read, 0); err != nil {
		return err
	}
	return j.use(im, attrs["src"])
}

// newest finds in a layout's index the cache: the one with the tag, or the last.
func newest(raw []byte, tag string) (digest.Digest, error) {
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return "", fmt.Errorf("read index.json: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	for _, m := range slices.Backward(index.Manifests) {
		if tag == "" || m.Annotations[ocispec.AnnotationRefName] == tag || strings.HasSuffix(m.Annotations["io.containerd.image.name"], ":"+tag) {
			return m.Digest, nil
		}
	}
	return "", fmt.Errorf("index.json names nothing with the tag %q: %w", tag, errdefs.ErrNotFound)
}

// descend reads a manifest, or an index and what it names.
func (im *imported) descend(d digest.Digest, read func(string) ([]byte, error), depth int) error {
	if depth > 2 {
		return fmt.Errorf("indexes nested too deeply: %w", errdefs.ErrInvalidArgument)
	}
	raw, err := verified(d, read)
	if err != nil {
		return err
	}
	var m struct {
		Manifests []ocispec.Descriptor `json:"manifests"`
		Config    ocispec.Descriptor   `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("read manifest %s: %w: %w", d, err, errdefs.ErrInvalidArgument)
	}
	for _, sub := range m.Manifests {
		if err := im.descend(sub.Digest, read, depth+1); err != nil {
			return err
		}
	}
	if m.Config.Digest == "" {
		return nil
	}
	config, err := verified(m.Config.Digest, read)
	if err != nil {
		return err
	}
	return im.add(config, m.Layers)
}

func verified(d digest.Digest, read func(string) ([]byte, error)) ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	raw, err := read(d.String())
	if err == nil && d.Algorithm().FromBytes(raw) != d {
		err = fmt.Errorf("%s is damaged: %w", d, errdefs.ErrDataLoss)
	}
	return raw, err
}
