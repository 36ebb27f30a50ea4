package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/typo"
)

// defaultContext is the name of the daemon that flags, environment and habit give; it is no file.
const defaultContext = "default"

// dockerEndpoint is the name of a context's part that says where the daemon is.
const dockerEndpoint = "docker"

// savedContext is a context as docker keeps it: contexts/meta/SHA256-OF-THE-NAME/meta.json. Parts that kist does not know stay.
type savedContext struct {
	Name      string
	Metadata  map[string]json.RawMessage
	Endpoints map[string]json.RawMessage
}

// savedEndpoint is where a context's daemon is.
type savedEndpoint struct {
	Host          string `json:",omitempty"`
	SkipTLSVerify bool
}

func (c *savedContext) endpoint() (e savedEndpoint, err error) {
	raw, ok := c.Endpoints[dockerEndpoint]
	if !ok {
		return e, fmt.Errorf("context %q has no docker endpoint", c.Name)
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return e, fmt.Errorf("context %q: %w", c.Name, err)
	}
	return e, nil
}

func (c *savedContext) setEndpoint(e savedEndpoint) error {
	raw, err := json.Marshal(e)
	if c.Endpoints == nil {
		c.Endpoints = map[string]json.RawMessage{}
	}
	c.Endpoints[dockerEndpoint] = raw
	return err
}

func (c *savedContext) description() string {
	var s string
	if json.Unmarshal(c.Metadata["Description"], &s) != nil {
		return ""
	}
	return s
}

func (c *savedContext) setDescription(s string) error {
	raw, err := json.Marshal(s)
	if c.Metadata == nil {
		c.Metadata = map[string]json.RawMessage{}
	}
	c.Metadata["Description"] = raw
	return err
}

// contextStore is the directory of contexts.
type contextStore struct{ dir string }

func (a *app) contexts() contextStore {
	return contextStore{filepath.Join(a.settingsDir(), "contexts")}
}

func contextID(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

func (s contextStore) metaDir(name string) string {
	return filepath.Join(s.dir, "meta", contextID(name))
}

func (s contextStore) tlsDir(name string) string { return filepath.Join(s.dir, "tls", contextID(name)) }

// read returns a context by name.
func (s contextStore) read(name string) (*savedContext, error) {
	raw, err := os.ReadFile(filepath.Join(s.metaDir(name), "meta.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, s.unknown(name)
	}
	if err != nil {
		return nil, fmt.Errorf("read the context %q: %w", name, err)
	}
	c := new(savedContext)
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("read the context %q: %w", name, err)
	}
	if c.Name != name {
		return nil, fmt.Errorf("read the context %q: its file is that of %q", name, c.Name)
	}
	return c, nil
}

// unknown says that there is no such context, and which is nearest.
func (s contextStore) unknown(name string) error {
	try := "kist context ls"
	if all, err := s.list(); err == nil {
		names := []string{defaultContext}
		for _, c := range all {
			names = append(names, c.Name)
		}
		if near := typo.Nearest(name, names); near != "" {
			try = "did you mean " + near + "?"
		}
	}
	return &fault.Error{Code: "context-unknown", What: fmt.Sprintf("context %q: context not found", name), Try: try, Class: errdefs.ErrNotFound}
}

// list returns the contexts in the order of their names, as far as their files can be read.
func (s contextStore) list() ([]*savedContext, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "meta"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the contexts: %w", err)
	}
	var all []*savedContext
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(s.dir, "meta", e.Name(), "meta.json"))
		c := new(savedContext)
		if err == nil {
			err = json.Unmarshal(raw, c)
		}
		// A stray directory is nobody's context.
		if err == nil && contextID(c.Name) == e.Name() {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b *savedContext) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func (s contextStore) write(c *savedContext) error {
	raw, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode the context: %w", err)
	}
	return replaceFile(filepath.Join(s.metaDir(c.Name), "meta.json"), raw)
}

func (s contextStore) remove(name string) error {
	return errors.Join(os.RemoveAll(s.metaDir(name)), os.RemoveAll(s.tlsDir(name)))
}

// tlsNames are the files that a context may keep for its endpoint.
var tlsNames = []string{"ca.pem", "cert.pem", "key.pem"}

// material are the files that the context keeps for TLS: names to paths.
func (s contextStore) material(name string) map[string]string {
	m := map[string]string{}
	for _, n := range tlsNames {
		p := filepath.Join(s.tlsDir(name), dockerEndpoint, n)
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
			m[n] = p
		}
	}
	return m
}

// keep replaces the files that the context keeps for TLS.
func (s contextStore) keep(name string, files map[string][]byte) error {
	if err := os.RemoveAll(s.tlsDir(name)); err != nil {
		return fmt.Errorf("remove the context's old certificates: %w", err)
	}
	for n, b := range files {
		if err := replaceFile(filepath.Join(s.tlsDir(name), dockerEndpoint, n), b); err != nil {
			return err
		}
	}
	return nil
}

// connection is the daemon of a saved context.
func (s contextStore) connection(name string) (client.Endpoint, error) {
	c, err := s.read(name)
	if err != nil {
		return client.Endpoint{}, err
	}
	saved, err := c.endpoint()
	if err != nil {
		return client.Endpoint{}, err
	}
	e, err := client.ParseHost(saved.Host)
	if err != nil {
		return e, fmt.Errorf("context %q: %w", name, err)
	}
	e.From = fmt.Sprintf("the context %q", name)
	files := s.material(name)
	if e.Scheme == "tcp" && (len(files) > 0 || saved.SkipTLSVerify) {
		e.TLS = &client.TLSFiles{Verify: !saved.SkipTLSVerify, CA: files["ca.pem"], Cert: files["cert.pem"], Key: files["key.pem"]}
	}
	return e, nil
}
