package registry

import (
	"context"
	"net/http"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
)

// Repository is a session with one repository. It is safe for concurrent use, and must be closed.
type Repository struct {
	client    *Client
	registry  string // as in references: "docker.io"
	name      string // "library/debian"
	endpoints []*endpoint
}

// Repository begins a session. auth holds the credentials that came with the request; without any, those in the daemon
// user's docker configuration are used.
func (c *Client) Repository(ctx context.Context, named reference.Named, auth *registry.AuthConfig) (*Repository, error) {
	r := &Repository{client: c, registry: reference.Domain(named), name: reference.Path(named)}
	login, err := requestCredential(auth)
	if err == nil && login.empty() {
		login, err = c.storedCredential(ctx, r.registry)
	}
	if err != nil {
		return nil, err
	}
	r.endpoints, err = c.endpoints(ctx, r.registry, login)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Close ends the session's connections.
func (r *Repository) Close() {
	for _, e := range r.endpoints {
		e.close()
	}
}

// origin is the registry itself.
func (r *Repository) origin() *endpoint { return r.endpoints[len(r.endpoints)-1] }

func (r *Repository) path(rest string) string { return r.name + "/" + rest }

func (r *Repository) scope(actions string) string { return "repository:" + r.name + ":" + actions }

func (r *Repository) pullScope() []string { return []string{r.scope("pull")} }

func (r *Repository) pushScope() []string { return []string{r.scope("pull,push")} }

// read asks the mirrors, then the registry. Only the registry's own failure counts.
func (r *Repository) read(ctx context.Context, q request) (*http.Response, error) {
	for _, e := range r.endpoints[:len(r.endpoints)-1] {
		if e.failed() {
			continue
		}
		res, err := e.send(ctx, q)
		if err == nil && res.StatusCode/100 == 2 {
			return res, nil
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			e.fail() // A mirror that is down is not asked for each blob.
			continue
		}
		drain(res.Body)
	}
	return r.ask(ctx, r.origin(), q)
}

// ask sends the request until it succeeds or another attempt makes no sense.
func (r *Repository) ask(ctx context.Context, e *endpoint, q request) (*http.Response, error) {
	for n := 1; ; n++ {
		res, err := e.send(ctx, q)
		if err == nil {
			if res.StatusCode/100 == 2 {
				return res, nil
			}
			err = readResponseError(res)
		}
		if n == attempts || !again(err) || !r.client.pause(ctx, n, err) {
			return nil, err
		}
	}
}

func (e *endpoint) failed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.down
}

func (e *endpoint) fail() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.down = true
}
