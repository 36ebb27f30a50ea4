package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/typo"
)

// Docker's media types for manifests.
const (
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeDockerSchema1  = "application/vnd.docker.distribution.manifest.v1+json"
	MediaTypeSignedSchema1  = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// manifestLimit bounds a manifest: twice what the specification asks registries to take.
const manifestLimit = 8 << 20

func acceptManifests() http.Header {
	return http.Header{"Accept": {
		ocispec.MediaTypeImageIndex, MediaTypeDockerIndex, ocispec.MediaTypeImageManifest, MediaTypeDockerManifest,
		MediaTypeSignedSchema1 + ";q=0.1", MediaTypeDockerSchema1 + ";q=0.1", "*/*;q=0.1",
	}}
}

// Resolve asks what a tag or digest stands for, without fetching it: the digest is empty if the registry does not tell.
func (r *Repository) Resolve(ctx context.Context, ref string) (ocispec.Descriptor, error) {
	res, err := r.read(ctx, request{
		method: http.MethodHead, path: r.path("manifests/" + ref), header: acceptManifests(), scopes: r.pullScope(),
	})
	if err != nil {
		return ocispec.Descriptor{}, r.explainManifest(ctx, ref, err)
	}
	defer res.Body.Close()
	d := ocispec.Descriptor{MediaType: mediaType(res.Header), Size: res.ContentLength}
	if got := digest.Digest(res.Header.Get("Docker-Content-Digest")); got.Validate() == nil {
		d.Digest = got
	}
	return d, nil
}

// Manifest fetches a manifest or index by tag or digest, verified.
func (r *Repository) Manifest(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error) {
	none := ocispec.Descriptor{}
	var (
		header http.Header
		raw    []byte
		err    error
	)
	for n := 1; ; n++ {
		header, raw, err = r.fetch(ctx, request{
			method: http.MethodGet, path: r.path("manifests/" + ref), header: acceptManifests(), scopes: r.pullScope(),
		})
		if err == nil {
			break
		}
		// What broke while it was read is asked for once more; fetch has been patient with the rest.
		if n == attempts || !isBroken(err) || !r.client.pause(ctx, n, err) {
			return none, nil, r.explainManifest(ctx, ref, err)
		}
	}
	d := ocispec.Descriptor{MediaType: mediaType(header), Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	want := digest.Digest(ref)
	if want.Validate() != nil { // a tag
		want = digest.Digest(header.Get("Docker-Content-Digest"))
	}
	if want.Validate() == nil {
		d.Digest = want.Algorithm().FromBytes(raw)
		if d.Digest != want {
			return none, nil, &fault.Error{
				Code: "blob-corrupt", What: "manifest " + ref + " is corrupt", Class: errdefs.ErrDataLoss,
				Cause: fmt.Sprintf("the registry gave bytes with the digest %s instead of %s", d.Digest, want),
			}
		}
	}
	return d, raw, nil
}

// fetch reads a small answer whole.
func (r *Repository) fetch(ctx context.Context, q request) (http.Header, []byte, error) {
	res, err := r.read(ctx, q)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	raw, err := readLimited(res.Body, manifestLimit)
	return res.Header, raw, err
}

func readLimited(body io.Reader, limit int64) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err == nil && int64(len(raw)) > limit {
		return nil, fmt.Errorf("more than %d bytes: %w", limit, errdefs.ErrInvalidArgument)
	}
	return raw, err
}

func mediaType(h http.Header) string {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}

// PutManifest gives the registry a manifest or index, under a tag or its digest.
func (r *Repository) PutManifest(ctx context.Context, ref, mediaType string, raw []byte) error {
	res, err := r.ask(ctx, r.origin(), request{
		method: http.MethodPut, path: r.path("manifests/" + ref), header: http.Header{"Content-Type": {mediaType}},
		scopes: r.pushScope(), size: int64(len(raw)),
		body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
	})
	if err != nil {
		return r.explain(fmt.Errorf("push manifest: %w", err))
	}
	return res.Body.Close()
}

// explainManifest tells a repository that is not there from a tag that is not.
func (r *Repository) explainManifest(ctx context.Context, ref string, err error) error {
	var re *ResponseError
	if !errors.As(err, &re) || re.Status != http.StatusNotFound {
		return r.explain(err)
	}
	name := r.registry + "/" + r.name
	tags, tagsErr := r.Tags(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(tagsErr, errdefs.ErrNotFound) {
		return &fault.Error{
			Code: "repository-not-found", What: "repository " + name + " does not exist", Class: errdefs.ErrNotFound, Err: err,
			Cause: "registry " + r.registry + " has no such repository" + r.nearbyRepositories(ctx), Try: "check the spelling",
		}
	}
	f := &fault.Error{
		Code: "tag-not-found", What: "manifest for " + name + ":" + ref + " not found: the repository has no such tag", Class: errdefs.ErrNotFound, Err: err,
		Cause: "manifest unknown: the repository is there, this tag is not",
	}
	if digest.Digest(ref).Validate() == nil {
		f.What, f.Try = "manifest for "+name+"@"+ref+" not found: the repository has no such digest", "pull a tag"
		f.Cause = "manifest unknown: the repository is there, this digest is not"
		return f
	}
	if len(tags) > 0 {
		near := typo.Rank(ref, tags, 8)
		f.Cause += "; tags: " + strings.Join(near, ", ")
		f.Try = "one of these tags, as " + near[0]
	}
	return f
}

// nearbyRepositories is the end of a sentence that names repositories which the user may have meant. Few public registries
// list theirs; then it is empty.
func (r *Repository) nearbyRepositories(ctx context.Context) string {
	if r.registry == dockerRegistry {
		return ""
	}
	names, err := r.list(ctx, "_catalog?n=1000", []string{"registry:catalog:*"}, "repositories", 1)
	if err != nil || len(names) == 0 {
		return ""
	}
	near := typo.Rank(r.name, names, 5)
	slices.Sort(near)
	return "; it has " + strings.Join(near, ", ")
}
