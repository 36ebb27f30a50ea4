package registry

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"

	"github.com/kistdev/kist/internal/fault"
)

// Login proves credentials with a registry. The token, if the registry gives one, is to be kept in place of the password.
func (c *Client) Login(ctx context.Context, auth registry.AuthConfig) (status, identity string, err error) {
	login, err := requestCredential(&auth)
	if err != nil {
		return "", "", err
	}
	name, host := serverName(auth.ServerAddress)
	if _, err := url.Parse("https://" + host); err != nil {
		return "", "", fmt.Errorf("invalid registry address %q: %w", auth.ServerAddress, errdefs.ErrInvalidArgument)
	}
	e, err := c.endpoint(ctx, host, login)
	if err != nil {
		return "", "", err
	}
	defer e.close()
	identity, err = e.prove(ctx)
	if err != nil {
		return "", "", c.explainLogin(name, login, err)
	}
	return "Login Succeeded", identity, nil
}

// serverName reads what docker calls the server's address: a URL, a host, or nothing for Docker's own registry.
func serverName(address string) (name, host string) {
	if _, rest, ok := strings.Cut(address, "://"); ok {
		address = rest
	}
	name, _, _ = strings.Cut(address, "/")
	name = strings.ToLower(name)
	switch name {
	case "", "index.docker.io", dockerRegistry, dockerHost:
		return dockerRegistry, dockerHost
	}
	return name, name
}

// prove asks for the registry's root with the credentials.
func (e *endpoint) prove(ctx context.Context) (identity string, err error) {
	res, err := e.once(ctx, request{method: http.MethodGet}, "")
	if err != nil {
		return "", err
	}
	defer drain(res.Body)
	if res.StatusCode/100 == 2 {
		return "", nil // It lets everybody in.
	}
	if res.StatusCode != http.StatusUnauthorized || !e.challenged(res, "", nil) {
		return "", readResponseError(res)
	}
	if e.auth.scheme == "bearer" && e.login.access == "" {
		t, err := e.fetchToken(ctx, e.auth, nil, true)
		if err != nil {
			return "", err
		}
		identity = t.RefreshToken
	}
	proof, err := e.send(ctx, request{method: http.MethodGet})
	if err != nil {
		return "", err
	}
	if proof.StatusCode/100 != 2 {
		return "", readResponseError(proof)
	}
	drain(proof.Body)
	return identity, nil
}

func (c *Client) explainLogin(name string, login credential, err error) error {
	if errdefs.IsUnauthorized(err) || errdefs.IsPermissionDenied(err) {
		return &fault.Error{
			Code: "registry-login-refused", What: "login to " + name + " failed: wrong name or password", Try: "check both; some registries want a token in place of the password", Class: errdefs.ErrUnauthenticated, Err: err,
			Cause: fmt.Sprintf("unauthorized: incorrect username or password for %s", login.who()),
		}
	}
	return c.explainConnection(name, fmt.Errorf("login to %s: %w", name, err))
}
