package serve

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/image"
)

// maxManifest bounds what is read of a manifest; the specification wants 4 MiB at least.
const maxManifest = 8 << 20

func (c *call) manifest(ref string) error {
	switch c.r.Method {
	case http.MethodGet, http.MethodHead:
		return c.getManifest(ref)
	case http.MethodPut:
		return c.putManifest(ref)
	case http.MethodDelete:
		if err := c.writes(); err != nil {
			return err
		}
		if err := c.s.shelf.Delete(c.r.Context(), c.repo, ref); err != nil {
			return c.manifestError(err)
		}
		c.report("delete", named(c.repo, ref), "")
		c.w.WriteHeader(http.StatusAccepted)
		return nil
	}
	return c.method("GET, HEAD, PUT, DELETE")
}

// named joins repository and reference as users write them.
func named(repo, ref string) string {
	if strings.Contains(ref, ":") {
		return repo + "@" + ref
	}
	return repo + ":" + ref
}

func (c *call) getManifest(ref string) error {
	d, raw, err := c.s.shelf.Manifest(c.repo, ref)
	if err != nil {
		return c.manifestError(err)
	}
	h := c.w.Header()
	h.Set("Content-Type", d.MediaType)
	h.Set("Docker-Content-Digest", d.Digest.String())
	h.Set("Etag", `"`+d.Digest.String()+`"`)
	if match := c.r.Header.Get("If-None-Match"); match == `"`+d.Digest.String()+`"` || match == d.Digest.String() {
		c.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if c.r.Method == http.MethodGet {
		c.report("pull", named(c.repo, ref), d.Digest.String())
	}
	return c.bytes(http.StatusOK, raw)
}

// manifestError tells a manifest that is not here from other errors.
func (c *call) manifestError(err error) error {
	var missing *image.MissingError
	if errdefs.IsNotFound(err) && !errors.As(err, &missing) {
		return &refusal{status: http.StatusNotFound, code: "MANIFEST_UNKNOWN", message: message(err), err: err}
	}
	return err
}

func (c *call) putManifest(ref string) error {
	if err := c.writes(); err != nil {
		return err
	}
	raw, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxManifest))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return &refusal{status: http.StatusRequestEntityTooLarge, code: "MANIFEST_INVALID", message: "the manifest is too large", err: err}
	}
	if err != nil {
		return &refusal{status: http.StatusBadRequest, code: "MANIFEST_INVALID", message: "the manifest was not sent whole", err: err}
	}
	kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil {
		kind = ""
	}
	done, err := c.s.shelf.Put(c.r.Context(), image.Put{Repo: c.repo, Ref: ref, MediaType: kind, Raw: raw})
	if err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Location", "/v2/"+c.repo+"/manifests/"+done.Descriptor.Digest.String())
	h.Set("Docker-Content-Digest", done.Descriptor.Digest.String())
	if done.Subject != "" {
		h.Set("OCI-Subject", done.Subject.String())
	}
	c.report("push", named(c.repo, ref), done.Descriptor.Digest.String())
	c.w.WriteHeader(http.StatusCreated)
	return nil
}

func (c *call) referrers(ref string) error {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		return c.method("GET, HEAD")
	}
	d, err := parseDigest(ref)
	if err != nil {
		return err
	}
	list, err := c.s.shelf.Referrers(c.repo, d)
	if err != nil {
		return err
	}
	if want := c.r.URL.Query().Get("artifactType"); want != "" {
		c.w.Header().Set("OCI-Filters-Applied", "artifactType")
		kept := []ocispec.Descriptor{}
		for _, d := range list {
			if d.ArtifactType == want {
				kept = append(kept, d)
			}
		}
		list = kept
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: list}
	if err := c.index(index); err != nil {
		return err
	}
	return nil
}
