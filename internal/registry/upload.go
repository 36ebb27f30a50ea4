package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// uploadChunk is the size of a part for servers that refuse a blob as a whole.
const uploadChunk = 32 << 20

// Exists says whether the repository has the blob.
func (r *Repository) Exists(ctx context.Context, d digest.Digest) (bool, error) {
	return r.exists(ctx, d, request{path: r.path("blobs/" + d.String())})
}

// HasManifest says whether the repository has the manifest or index.
func (r *Repository) HasManifest(ctx context.Context, d digest.Digest) (bool, error) {
	return r.exists(ctx, d, request{path: r.path("manifests/" + d.String()), header: acceptManifests()})
}

func (r *Repository) exists(ctx context.Context, d digest.Digest, q request) (bool, error) {
	q.method, q.scopes = http.MethodHead, r.pushScope()
	res, err := r.ask(ctx, r.origin(), q)
	if errors.Is(err, errdefs.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, r.explain(fmt.Errorf("look for %s: %w", d, err))
	}
	res.Body.Close()
	return true, nil
}

// Mount makes a blob of another repository of the same registry one of this repository, if the registry allows it.
func (r *Repository) Mount(ctx context.Context, d digest.Digest, from string) (bool, error) {
	q := url.Values{"mount": {d.String()}, "from": {from}}
	scopes := append(r.pushScope(), "repository:"+from+":pull")
	res, err := r.ask(ctx, r.origin(), request{
		method: http.MethodPost, path: r.path("blobs/uploads/?" + q.Encode()), scopes: scopes,
	})
	if err != nil {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		return false, nil // Then it is uploaded.
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusAccepted {
		r.cancelUpload(ctx, res)
	}
	return res.StatusCode == http.StatusCreated, nil
}

// cancelUpload ends an upload that a registry began instead of mounting.
func (r *Repository) cancelUpload(ctx context.Context, begun *http.Response) {
	location, err := r.location(begun)
	if err != nil {
		return
	}
	res, err := r.origin().send(ctx, request{method: http.MethodDelete, absolute: location, scopes: r.pushScope()})
	if err == nil {
		res.Body.Close()
	}
}

// Upload sends a blob. open is called for each attempt; sent is told how many bytes of the attempt have gone out.
func (r *Repository) Upload(ctx context.Context, d ocispec.Descriptor, open func() (io.ReadCloser, error), sent func(int64)) error {
	upload := r.uploadWhole
	for n := 1; ; n++ {
		err := upload(ctx, d, open, sent)
		if err == nil {
			return nil
		}
		var re *ResponseError
		if errors.As(err, &re) && re.Status == http.StatusRequestEntityTooLarge && n == 1 {
			upload = r.uploadParts
			continue
		}
		if n == attempts || !again(err) || !r.client.pause(ctx, n, err) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return r.explain(fmt.Errorf("upload %s: %w", d.Digest, err))
		}
	}
}

// begin opens an upload and returns its address.
func (r *Repository) begin(ctx context.Context) (string, error) {
	res, err := r.ask(ctx, r.origin(), request{
		method: http.MethodPost, path: r.path("blobs/uploads/"), scopes: r.pushScope(),
	})
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	return r.location(res)
}

// location is where an upload goes on.
func (r *Repository) location(res *http.Response) (string, error) {
	u, err := res.Location()
	if err != nil {
		return "", fmt.Errorf("upload: the registry gave no address: %w: %w", err, errdefs.ErrUnavailable)
	}
	// Behind a proxy that ends TLS, registries think they speak plain HTTP.
	if base := res.Request.URL; u.Host == base.Host {
		u.Scheme = base.Scheme
	}
	return u.String(), nil
}

func withDigest(location string, d digest.Digest) string {
	sep := "?"
	if strings.Contains(location, "?") {
		sep = "&"
	}
	return location + sep + "digest=" + url.QueryEscape(d.String())
}

func (r *Repository) uploadWhole(ctx context.Context, d ocispec.Descriptor, open func() (io.ReadCloser, error), sent func(int64)) error {
	location, err := r.begin(ctx)
	if err != nil {
		return err
	}
	return r.put(ctx, request{
		method: http.MethodPut, absolute: withDigest(location, d.Digest), scopes: r.pushScope(),
		header: http.Header{"Content-Type": {"application/octet-stream"}}, size: d.Size,
		body: func() (io.ReadCloser, error) {
			body, err := open()
			if err != nil {
				return nil, err
			}
			return &counted{body, sent, 0}, nil
		},
	})
}

func (r *Repository) put(ctx context.Context, q request) error {
	res, err := r.origin().send(ctx, q)
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		return readResponseError(res)
	}
	drain(res.Body)
	return nil
}

// uploadParts sends the blob in parts that pass a proxy which bounds requests.
func (r *Repository) uploadParts(ctx context.Context, d ocispec.Descriptor, open func() (io.ReadCloser, error), sent func(int64)) error {
	location, err := r.begin(ctx)
	if err != nil {
		return err
	}
	body, err := open()
	if err != nil {
		return &localError{err}
	}
	defer body.Close()
	for at := int64(0); at < d.Size; {
		n := min(uploadChunk, d.Size-at)
		part := io.LimitReader(body, n)
		res, err := r.origin().send(ctx, request{
			method: http.MethodPatch, absolute: location, scopes: r.pushScope(), size: n,
			header: http.Header{
				"Content-Type":  {"application/octet-stream"},
				"Content-Range": {fmt.Sprintf("%d-%d", at, at+n-1)},
			},
			body: func() (io.ReadCloser, error) { return io.NopCloser(part), nil },
		})
		if err != nil {
			return err
		}
		if res.StatusCode/100 != 2 {
			return readResponseError(res)
		}
		location, err = r.location(res)
		drain(res.Body)
		if err != nil {
			return err
		}
		at += n
		sent(at)
	}
	return r.put(ctx, request{method: http.MethodPut, absolute: withDigest(location, d.Digest), scopes: r.pushScope()})
}

// counted tells how much of a body has been read.
type counted struct {
	io.ReadCloser
	sent func(int64)
	n    int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n += int64(n)
	c.sent(c.n)
	return n, err
}
