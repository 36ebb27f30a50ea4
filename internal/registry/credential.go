package registry

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"
	"oras.land/oras-go/v2/registry/remote/credentials"
)

// credential is what a user proves itself with to one server; the zero value is nobody.
type credential struct {
	user, password string
	refresh        string // an identity token: exchanged for access tokens
	access         string // an access token, sent as it is
}

func (c credential) empty() bool { return c == credential{} }

// requestCredential reads what came with a request (docker's X-Registry-Auth).
func requestCredential(a *registry.AuthConfig) (credential, error) {
	if a == nil {
		return credential{}, nil
	}
	c := credential{user: a.Username, password: a.Password, refresh: a.IdentityToken, access: a.RegistryToken}
	if c.user == "" && a.Auth != "" {
		raw, err := base64.StdEncoding.DecodeString(a.Auth)
		if err != nil {
			return credential{}, fmt.Errorf("registry credentials: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		c.user, c.password, _ = strings.Cut(string(raw), ":")
	}
	return c, nil
}

// storedCredential looks a host up in docker's config.json, credential helpers included. A file or helper that cannot be
// used is as good as none: what is public can still be had.
func (c *Client) storedCredential(ctx context.Context, registry string) (credential, error) {
	name := c.dockerConfig()
	if name == "" {
		return credential{}, nil
	}
	store, err := credentials.NewStore(name, credentials.StoreOptions{DetectDefaultNativeStore: false})
	if err != nil {
		slog.Warn("docker's config.json cannot be read; going on without credentials", "file", name, "err", err)
		return credential{}, nil
	}
	key := registry
	if registry == dockerRegistry || registry == dockerHost {
		key = dockerAuthKey
	}
	found, err := store.Get(ctx, key)
	if ctx.Err() != nil {
		return credential{}, ctx.Err()
	}
	if err != nil {
		slog.Warn("the credential helper failed; going on without credentials", "registry", registry, "err", err)
		return credential{}, nil
	}
	return credential{
		user: found.Username, password: found.Password, refresh: found.RefreshToken, access: found.AccessToken,
	}, nil
}

// dockerConfig is the path of config.json, empty if there is none.
func (c *Client) dockerConfig() string {
	name := c.o.DockerConfig
	if name == "" {
		dir := os.Getenv("DOCKER_CONFIG")
		if dir == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return ""
			}
			dir = filepath.Join(home, ".docker")
		}
		name = filepath.Join(dir, "config.json")
	}
	if _, err := os.Stat(name); err != nil {
		return ""
	}
	return name
}
