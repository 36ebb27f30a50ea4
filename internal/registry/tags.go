package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
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

// Nearest picks at most n of the names, those that are most like name first.
func Nearest(name string, names []string, n int) []string {
	type scored struct {
		name     string
		distance int
	}
	list := make([]scored, 0, len(names))
	for _, other := range names {
		list = append(list, scored{other, Distance(name, other)})
	}
	slices.SortStableFunc(list, func(a, b scored) int { return a.distance - b.distance })
	list = list[:min(n, len(list))]
	near := make([]string, len(list))
	for i, s := range list {
		near[i] = s.name
	}
	return near
}

// Distance is how many letters must be put in, taken out or changed to make b of a (Levenshtein). Only the first hundred
// letters count.
func Distance(a, b string) int {
	a, b = a[:min(len(a), 100)], b[:min(len(b), 100)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
