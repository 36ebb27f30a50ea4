package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"
)

// searchHost answers searches of Docker's own registry.
const searchHost = "index.docker.io"

// catalogPages bounds how many pages of a registry's catalog are read for a search.
const catalogPages = 20

// Search looks for repositories whose name has the term in it. A term that begins with a registry's name is asked there, any
// other one at Docker's. A registry without a search of its own (hardly any has one) is asked for its catalog.
func (c *Client) Search(ctx context.Context, term string, limit int, auth *registry.AuthConfig) ([]registry.SearchResult, error) {
	host, words := searchHost, term
	if name, rest, ok := strings.Cut(term, "/"); ok && (strings.ContainsAny(name, ".:") || name == "localhost") {
		host, words = strings.ToLower(name), rest
	}
	if host == dockerRegistry {
		host = searchHost
	}
	login, err := requestCredential(auth)
	if err == nil && login.empty() {
		login, err = c.storedCredential(ctx, host)
	}
	if err != nil {
		return nil, err
	}
	e, err := c.endpoint(ctx, host, login)
	if err != nil {
		return nil, err
	}
	defer e.close()
	r := &Repository{client: c, registry: host, endpoints: []*endpoint{e}}
	list, err := r.search(ctx, words, limit)
	if errdefs.IsNotFound(err) && host != searchHost {
		list, err = r.catalog(ctx, words, limit)
	}
	if err != nil {
		return nil, c.explainConnection(host, fmt.Errorf("search %q at %s: %w", words, host, err))
	}
	return list, nil
}

// search asks a registry's own search.
func (r *Repository) search(ctx context.Context, words string, limit int) ([]registry.SearchResult, error) {
	query := url.Values{"q": {strings.TrimPrefix(words, "library/")}, "n": {strconv.Itoa(limit)}}
	res, err := r.ask(ctx, r.origin(), request{method: http.MethodGet, path: "/v1/search?" + query.Encode()})
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	raw, err := readLimited(res.Body, manifestLimit)
	if err != nil {
		return nil, err
	}
	var found registry.SearchResults
	if err := json.Unmarshal(raw, &found); err != nil {
		return nil, fmt.Errorf("what came is no list: %w: %w", err, errdefs.ErrNotFound)
	}
	return found.Results[:min(limit, len(found.Results))], nil
}

// catalog picks from all repositories of a registry.
func (r *Repository) catalog(ctx context.Context, words string, limit int) ([]registry.SearchResult, error) {
	names, err := r.list(ctx, "_catalog?n=1000", []string{"registry:catalog:*"}, "repositories", catalogPages)
	if err != nil {
		return nil, err
	}
	var list []registry.SearchResult
	for _, name := range names {
		if len(list) < limit && strings.Contains(name, strings.ToLower(words)) {
			list = append(list, registry.SearchResult{Name: r.registry + "/" + name})
		}
	}
	return list, nil
}
