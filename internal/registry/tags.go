package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/errdefs"
)

// tagPages bounds how many pages of tags are read.
const tagPages = 100

// Tags lists the repository's tags.
func (r *Repository) Tags(ctx context.Context) ([]string, error) {
	tags, err := r.list(ctx, r.path("tags/list?n=1000"), r.pullScope(), "tags", tagPages)
	if err != nil {
		return nil, r.explain(fmt.Errorf("list tags: %w", err))
	}
	return tags, nil
}

// list reads pages of names from the registry itself, following its Link headers.
func (r *Repository) list(ctx context.Context, path string, scopes []string, field string, pages int) ([]string, error) {
	var all []string
	q := request{method: http.MethodGet, path: path, scopes: scopes}
	for range pages {
		names, next, err := r.page(ctx, q, field)
		if err != nil {
			return nil, err
		}
		all = append(all, names...)
		if next == "" {
			break
		}
		q = request{method: http.MethodGet, absolute: next, scopes: scopes}
	}
	return all, nil
}

// page reads one page, and where the next one is.
func (r *Repository) page(ctx context.Context, q request, field string) (names []string, next string, err error) {
	res, err := r.ask(ctx, r.origin(), q)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	raw, err := readLimited(res.Body, manifestLimit)
	if err != nil {
		return nil, "", err
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, "", fmt.Errorf("%s: %w: %w", field, err, errdefs.ErrUnavailable)
	}
	if fields[field] != nil {
		if err := json.Unmarshal(fields[field], &names); err != nil {
			return nil, "", fmt.Errorf("%s: %w: %w", field, err, errdefs.ErrUnavailable)
		}
	}
	next, _ = nextPage(res)
	return names, next, nil
}

// nextPage reads `Link: <address>; rel="next"`. A page on another server is not followed.
func nextPage(res *http.Response) (string, bool) {
	for _, link := range res.Header.Values("Link") {
		address, params, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(link), "<"), ">")
		if !ok || !strings.Contains(params, "next") {
			continue
		}
		u, err := url.Parse(address)
		if err != nil {
			return "", false
		}
		u = res.Request.URL.ResolveReference(u)
		if u.Host != res.Request.URL.Host {
			return "", false
		}
		u.Scheme = res.Request.URL.Scheme
		return u.String(), true
	}
	return "", false
}
