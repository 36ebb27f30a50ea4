package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	apiregistry "github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/fault"
)

// Place is the session of a client on this machine: directories are used as they lie, files are written where they shall
// be. All paths are absolute.
type Place struct {
	// Dirs are directories by the names that frontends know: "context", "dockerfile", and those of named contexts.
	Dirs map[string]string
	// Secrets are values by id.
	Secrets map[string][]byte
	// Agents are sockets of ssh agents by id.
	Agents map[string]string
	// Auth gives credentials by registry host.
	Auth map[string]apiregistry.AuthConfig
	// Outputs are the paths that exports write to, by their numbers; "-" is Stdout.
	Outputs map[int]string
	Stdout  io.Writer
	// Stores are OCI layouts by name, for contexts and caches.
	Stores map[string]string
	// Owner is whom written files belong to; nil leaves them to root.
	Owner *Owner
}

// Owner is a user.
type Owner struct{ UID, GID int }

var _ Session = (*Place)(nil)

// placeID is every Place's name.
const placeID = "place"

// ID is the same for all: a frontend that is told the same of the same directories makes the same graph, name by name.
func (p *Place) ID() string { return placeID }

// Local gives the directory itself.
func (p *Place) Local(_ context.Context, name string, _ LocalOptions) (*LocalDir, error) {
	dir, ok := p.Dirs[name]
	if !ok {
		return nil, fmt.Errorf("the directory %q was not given: %w", name, errdefs.ErrNotFound)
	}
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &fault.Error{Code: "no-context", What: "there is no directory " + dir, Class: errdefs.ErrNotFound, Err: err}
	case err != nil:
		return nil, fmt.Errorf("open the directory %q: %w", name, err)
	case !st.IsDir():
		return nil, &fault.Error{Code: "no-context", What: dir + " is not a directory", Class: errdefs.ErrInvalidArgument}
	}
	return &LocalDir{Dir: dir, Key: "place " + dir, InPlace: true, Release: func() {}}, nil
}

// Secret is a value that came with the request.
func (p *Place) Secret(_ context.Context, id string) ([]byte, error) {
	v, ok := p.Secrets[id]
	if !ok {
		return nil, fmt.Errorf("the secret %q was not given: %w", id, errdefs.ErrNotFound)
	}
	return v, nil
}

// SSH connects to an agent's socket.
func (p *Place) SSH(ctx context.Context, id string) (net.Conn, error) {
	if id == "" {
		id = "default"
	}
	path, ok := p.Agents[id]
	if !ok {
		return nil, fmt.Errorf("the ssh agent %q was not given: %w", id, errdefs.ErrNotFound)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, &fault.Error{
			Code: "no-ssh-agent", What: fmt.Sprintf("the ssh agent %q does not answer", id), Cause: err.Error(),
			Try: "start one (eval $(ssh-agent); ssh-add), and build again", Class: errdefs.ErrUnavailable, Err: err,
		}
	}
	return conn, nil
}

// Credentials are those that came with the request.
func (p *Place) Credentials(_ context.Context, host string) (*apiregistry.AuthConfig, error) {
	auth, ok := p.Auth[host]
	if !ok {
		return nil, nil
	}
	return &auth, nil
}

// Upload has nothing: a client on this machine gives its context by path.
func (p *Place) Upload(_ context.Context, url string) (io.ReadCloser, error) {
	return nil, fmt.Errorf("the upload %s: %w", url, errdefs.ErrNotFound)
}

// Output creates the file, which gets its name when it is complete.
func (p *Place) Output(_ context.Context, export int, _ map[string]string) (io.WriteCloser, error) {
	path, ok := p.Outputs[export]
	if !ok {
		return nil, fmt.Errorf("the destination of output %d was not given: %w", export, errdefs.ErrNotFound)
	}
	if path == "-" {
		return nopCloser{p.Stdout}, nil
	}
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		return nil, &fault.Error{
			Code: "output-is-directory", What: "cannot write to " + path, Cause: "it is a directory",
			Try: "name a file: --output type=...,dest=" + filepath.Join(path, "image.tar"), Class: errdefs.ErrInvalidArgument,
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, fmt.Errorf("write output: %w", err)
	}
	return &pendingFile{File: f, path: path, owner: p.Owner}, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// pendingFile is a file that has not got its name yet. Abort leaves nothing.
type pendingFile struct {
	*os.File
	path  string
	owner *Owner
}

// Close gives the file its name.
func (f *pendingFile) Close() error {
	err := f.Chmod(0o644)
	if f.owner != nil && err == nil {
		err = f.Chown(f.owner.UID, f.owner.GID)
	}
	if err = errors.Join(err, f.File.Close()); err == nil {
		err = os.Rename(f.Name(), f.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// Abort drops the file.
func (f *pendingFile) Abort() error { return errors.Join(f.File.Close(), os.Remove(f.Name())) }

// Content opens a blob of an OCI layout, or its index.
func (p *Place) Content(_ context.Context, store, dgst string) (io.ReadCloser, error) {
	path, err := p.blob(store, dgst)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s has no %s: %w", store, filepath.Base(path), errdefs.ErrNotFound)
	}
	return f, err
}

// PutContent writes a blob of an OCI layout, or its index.
func (p *Place) PutContent(_ context.Context, store, dgst string, _ int64, r io.Reader) error {
	path, err := p.blob(store, dgst)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if dgst != "" {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new*")
	if err != nil {
		return err
	}
	out := &pendingFile{File: f, path: path, owner: p.Owner}
	if _, err := io.Copy(out, r); err != nil {
		return errors.Join(err, out.Abort())
	}
	return out.Close()
}

// blob is the path of a blob, or of the index, in a store that the client named.
func (p *Place) blob(store, dgst string) (string, error) {
	dir, ok := p.Stores[store]
	if !ok {
		return "", fmt.Errorf("the store %q was not given: %w", store, errdefs.ErrNotFound)
	}
	if dgst == "" {
		return filepath.Join(dir, "index.json"), nil
	}
	if dgst == "oci-layout" {
		return filepath.Join(dir, dgst), nil
	}
	d, err := digest.Parse(dgst)
	if err != nil {
		return "", fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return filepath.Join(dir, "blobs", d.Algorithm().String(), d.Encoded()), nil
}
