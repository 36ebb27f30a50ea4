package build

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/util/purl"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	packageurl "github.com/package-url/packageurl-go"

	"github.com/kistdev/kist/internal/image"
)

// attributes are an export's options as clients write them.
type attributes map[string]string

// flag reads a boolean; an empty one is true, as in "push=".
func (a attributes) flag(key string, otherwise bool) (bool, error) {
	raw, ok := a[key]
	if !ok {
		return otherwise, nil
	}
	if raw == "" {
		return true, nil
	}
	v, err := strconv.ParseBool(raw)
	if err != nil {
		return false, fmt.Errorf("output option %s=%s is neither true nor false: %w", key, raw, errdefs.ErrInvalidArgument)
	}
	return v, nil
}

// names are what the result is to be called, in full.
func (a attributes) names() ([]string, error) {
	var names []string
	for one := range strings.SplitSeq(a["name"], ",") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		named, err := reference.ParseNormalizedNamed(one)
		if err != nil {
			return nil, fmt.Errorf("output name %q: %w: %w", one, err, errdefs.ErrInvalidArgument)
		}
		names = append(names, reference.TagNameOnly(named).String())
	}
	return names, nil
}

// epoch is the export's own SOURCE_DATE_EPOCH.
func (a attributes) epoch() (*time.Time, error) {
	raw := a["source-date-epoch"]
	if raw == "" {
		return nil, nil //nolint:nilnil // none is wanted
	}
	seconds, err := strconv.ParseInt(raw, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("output option source-date-epoch=%s: %w: %w", raw, err, errdefs.ErrInvalidArgument)
	}
	at := time.Unix(seconds, 0).UTC()
	return &at, nil
}

// compression of the layers' blobs.
func (a attributes) compression() (c image.Compression, err error) {
	c.Type = a["compression"]
	if raw := a["compression-level"]; raw != "" {
		level, err := strconv.Atoi(raw)
		if err != nil {
			return c, fmt.Errorf("output option compression-level=%s: %w: %w", raw, err, errdefs.ErrInvalidArgument)
		}
		c.Level = &level
	}
	c.Force, err = a.flag("force-compression", false)
	return c, err
}

// buildOptions are what the image store is asked for.
func (a attributes) buildOptions(products []product, multi bool) (o image.BuildOptions, err error) {
	if o.Names, err = a.names(); err != nil {
		return o, err
	}
	if o.Compression, err = a.compression(); err != nil {
		return o, err
	}
	if o.Rewrite, err = a.flag("rewrite-timestamp", false); err != nil {
		return o, err
	}
	oci, err := a.flag("oci-mediatypes", true)
	if err != nil {
		return o, err
	}
	o.DockerTypes = !oci && o.Compression.Type != "zstd"
	epoch, err := a.epoch()
	if err != nil {
		return o, err
	}
	o.Index = multi && len(products) > 1
	for _, p := range products {
		one := image.BuildImage{
			Platform: p.Platform, Config: p.Config, Base: p.Base, Layers: p.Layers, InlineCache: p.InlineCache, Epoch: p.Epoch,
		}
		if epoch != nil {
			one.Epoch = epoch
		}
		for _, at := range p.Attestations {
			at.Subjects = subjects(o.Names, p.Platform)
			one.Attestations = append(one.Attestations, at.Attestation)
		}
		o.Images = append(o.Images, one)
	}
	return o, a.annotate(&o)
}

// subjects are the image's names as package URLs.
func subjects(names []string, platform ocispec.Platform) []string {
	var list []string
	for _, name := range names {
		if one, err := purl.RefToPURL(packageurl.TypeDocker, name, &platform); err == nil {
			list = append(list, one)
		}
	}
	return list
}

// annotate reads "annotation-manifest[linux/amd64].key=value" and its like.
func (a attributes) annotate(o *image.BuildOptions) error {
	for raw, value := range a {
		key, ok, err := exptypes.ParseAnnotationKey(raw)
		if err != nil {
			return fmt.Errorf("output option %s: %w: %w", raw, err, errdefs.ErrInvalidArgument)
		}
		if !ok {
			continue
		}
		if key.Type == exptypes.AnnotationIndex {
			add(&o.IndexAnnotations, key.Key, value)
		}
		for i := range o.Images {
			img := &o.Images[i]
			if key.Platform != nil && key.PlatformString() != formatAll(img.Platform) {
				continue
			}
			switch key.Type {
			case exptypes.AnnotationManifest:
				add(&img.Annotations, key.Key, value)
			case exptypes.AnnotationManifestDescriptor, exptypes.AnnotationIndexDescriptor:
				add(&img.DescriptorAnnotations, key.Key, value)
			}
		}
	}
	return nil
}

func add(m *map[string]string, key, value string) {
	if *m == nil {
		*m = map[string]string{}
	}
	(*m)[key] = value
}

// told is what clients are told about an image.
func told(b *image.Built, names []string) (map[string]string, error) {
	d := b.Top
	raw, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	m := map[string]string{
		exptypes.ExporterImageDigestKey:     d.Digest.String(),
		exptypes.ExporterImageDescriptorKey: base64.StdEncoding.EncodeToString(raw),
	}
	switch {
	case len(b.Configs) == 1:
		m[exptypes.ExporterImageConfigDigestKey] = b.Configs[0].String()
	case b.Image != nil: // What the image is called here by its id.
		m[exptypes.ExporterImageConfigDigestKey] = b.Image.ID.String()
	}
	if len(names) > 0 {
		m[exptypes.ExporterImageNameKey] = strings.Join(names, ",")
	}
	return m, nil
}
