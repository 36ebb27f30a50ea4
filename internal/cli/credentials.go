package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/moby/moby/api/types/registry"
)

// hubKey is the name that Docker Hub's credentials are kept under.
const hubKey = "https://index.docker.io/v1/"

// registryKey is the name that a registry's credentials are kept under.
func registryKey(domain string) string {
	switch domain {
	case "", "docker.io", "index.docker.io", "registry-1.docker.io":
		return hubKey
	}
	return domain
}

// credentials returns what is kept for a registry, or nothing.
func (a *app) credentials(domain string) (registry.AuthConfig, error) {
	key := registryKey(domain)
	s := a.config()
	if helper := s.helper(key); helper != "" {
		return askHelper(helper, key)
	}
	for name, e := range s.Auths {
		if name != key && bareHost(name) != key {
			continue
		}
		return e.auth(key)
	}
	return registry.AuthConfig{}, nil
}

// helper names the program that keeps a registry's credentials.
func (s *settings) helper(key string) string {
	if h := s.CredHelpers[key]; h != "" {
		return h
	}
	return s.CredsStore
}

// bareHost takes scheme and path off an address.
func bareHost(s string) string {
	if _, rest, ok := strings.Cut(s, "://"); ok {
		s = rest
	}
	host, _, _ := strings.Cut(s, "/")
	return host
}

// auth decodes an entry of the file.
func (e authEntry) auth(key string) (registry.AuthConfig, error) {
	c := registry.AuthConfig{ServerAddress: key, IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken}
	if e.Auth == "" {
		return c, nil
	}
	b, err := base64.StdEncoding.DecodeString(e.Auth)
	if err != nil {
		return c, fmt.Errorf("decode the credentials for %s: %w", key, err)
	}
	user, password, ok := strings.Cut(string(b), ":")
	if !ok || user == "" {
		return c, fmt.Errorf("the credentials for %s are not name:password", key)
	}
	c.Username, c.Password = user, strings.TrimRight(password, "\x00")
	return c, nil
}

// helperAnswer is what a credential helper prints.
type helperAnswer struct {
	ServerURL, Username, Secret string
}

// runHelper runs docker-credential-NAME.
func runHelper(helper, verb, input string) ([]byte, error) {
	if strings.ContainsAny(helper, "/\\") {
		return nil, fmt.Errorf("credential helper %q is not a name", helper)
	}
	cmd := exec.Command("docker-credential-"+helper, verb)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.Output()
	if err != nil {
		said := strings.TrimSpace(string(out))
		var ee *exec.ExitError
		if said == "" && errors.As(err, &ee) {
			said = strings.TrimSpace(string(ee.Stderr))
		}
		return out, fmt.Errorf("credential helper docker-credential-%s %s: %w: %s", helper, verb, err, said)
	}
	return out, nil
}

func askHelper(helper, key string) (registry.AuthConfig, error) {
	out, err := runHelper(helper, "get", key)
	if err != nil {
		// The protocol has no other sign for "nothing is kept".
		if bytes.Contains(out, []byte("credentials not found")) {
			return registry.AuthConfig{}, nil
		}
		return registry.AuthConfig{}, err
	}
	var h helperAnswer
	if err := json.Unmarshal(out, &h); err != nil {
		return registry.AuthConfig{}, fmt.Errorf("credential helper docker-credential-%s: %w", helper, err)
	}
	c := registry.AuthConfig{ServerAddress: key}
	if h.Username == "<token>" {
		c.IdentityToken = h.Secret
	} else {
		c.Username, c.Password = h.Username, h.Secret
	}
	return c, nil
}

// keep stores credentials.
func (a *app) keep(key string, c registry.AuthConfig) error {
	if helper := a.config().helper(key); helper != "" {
		h := helperAnswer{key, c.Username, c.Password}
		if c.IdentityToken != "" {
			h.Username, h.Secret = "<token>", c.IdentityToken
		}
		b, err := json.Marshal(h)
		if err != nil {
			return fmt.Errorf("encode the credentials: %w", err)
		}
		if _, err := runHelper(helper, "store", string(b)); err != nil {
			return err
		}
		return a.changeSettings(func(auths map[string]authEntry) { auths[key] = authEntry{} })
	}
	return a.changeSettings(func(auths map[string]authEntry) {
		if c.IdentityToken != "" {
			auths[key] = authEntry{Auth: encodeAuth(c.Username, ""), IdentityToken: c.IdentityToken}
			return
		}
		auths[key] = authEntry{Auth: encodeAuth(c.Username, c.Password)}
	})
}

// forget removes credentials.
func (a *app) forget(key string) error {
	if helper := a.config().helper(key); helper != "" {
		if _, err := runHelper(helper, "erase", key); err != nil {
			a.note("warning: " + err.Error())
		}
	}
	return a.changeSettings(func(auths map[string]authEntry) {
		delete(auths, key)
		for name := range auths {
			if bareHost(name) == key {
				delete(auths, name)
			}
		}
	})
}
