package api

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/buildmsg"
)

// layoutScheme names a context that is an image in an OCI layout: oci-layout://DIRECTORY[:TAG][@DIGEST].
const layoutScheme = "oci-layout://"

// addLayouts gives the session the OCI layouts among the contexts, and tells the frontend which of their images is meant.
func (k *kistSession) addLayouts(attrs map[string]string) error {
	for name, src := range k.req.Contexts {
		if !strings.HasPrefix(src.Ref, layoutScheme) {
			continue
		}
		if src.Dir == nil || !isHere(src.Dir) {
			return fmt.Errorf("--build-context %s: an OCI layout has to be on the daemon's machine: %w", name, errdefs.ErrNotImplemented)
		}
		image, err := layoutImage(src)
		if err != nil {
			return fmt.Errorf("--build-context %s: %w", name, err)
		}
		id := fmt.Sprintf("layout-%d", len(k.Stores))
		k.Stores["oci:"+id] = filepath.Clean(src.Dir.Path)
		attrs["context:"+name] = layoutScheme + id + "@" + image.String()
	}
	return nil
}

// layoutImage finds the image that is meant: by its digest, by its tag, or the only one.
func layoutImage(src buildmsg.Source) (digest.Digest, error) {
	rest := strings.TrimPrefix(strings.TrimPrefix(src.Ref, layoutScheme), src.Dir.Path)
	if d, ok := strings.CutPrefix(rest, "@"); ok {
		return digest.Parse(d)
	}
	if _, d, ok := strings.Cut(rest, "@"); ok {
		return digest.Parse(d)
	}
	tag := strings.TrimPrefix(rest, ":")
	raw, err := os.ReadFile(filepath.Join(src.Dir.Path, ocispec.ImageIndexFile))
	if err != nil {
		return "", fmt.Errorf("the OCI layout has no index: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return "", fmt.Errorf("the index of the OCI layout: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if tag == "" && len(index.Manifests) == 1 {
		return index.Manifests[0].Digest, nil
	}
	if tag == "" {
		tag = "latest"
	}
	for _, m := range index.Manifests {
		name := m.Annotations[ocispec.AnnotationRefName]
		if name == tag || strings.HasSuffix(name, ":"+tag) {
			return m.Digest, nil
		}
	}
	return "", fmt.Errorf("the OCI layout has no image %q: %w", tag, errdefs.ErrNotFound)
}
