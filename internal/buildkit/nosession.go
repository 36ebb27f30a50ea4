package buildkit

import (
	"context"
	"io"
	"net"

	apiregistry "github.com/moby/moby/api/types/registry"

	"github.com/kistdev/kist/internal/build"
)

// noSession is the client's side of a build that has none: everything comes from elsewhere.
type noSession struct{}

// ID implements build.Session.
func (noSession) ID() string { return "" }

// Local implements build.Session.
func (noSession) Local(_ context.Context, name string, _ build.LocalOptions) (*build.LocalDir, error) {
	return nil, errNoClient("directory " + name)
}

// Secret implements build.Session.
func (noSession) Secret(_ context.Context, id string) ([]byte, error) {
	return nil, errNoClient("secret " + id)
}

// SSH implements build.Session.
func (noSession) SSH(_ context.Context, id string) (net.Conn, error) {
	return nil, errNoClient("ssh agent " + id)
}

// Credentials implements build.Session.
func (noSession) Credentials(context.Context, string) (*apiregistry.AuthConfig, error) {
	return nil, nil
}

// Upload implements build.Session.
func (noSession) Upload(context.Context, string) (io.ReadCloser, error) {
	return nil, errNoClient("uploaded context")
}

// Output implements build.Session.
func (noSession) Output(context.Context, int, map[string]string) (io.WriteCloser, error) {
	return nil, errNoClient("output")
}

// OutputTrees implements build.Session.
func (noSession) OutputTrees(context.Context, int, []build.Tree) error {
	return errNoClient("output")
}

// Content implements build.Session.
func (noSession) Content(_ context.Context, store, _ string) (io.ReadCloser, error) {
	return nil, errNoClient("content store " + store)
}

// PutContent implements build.Session.
func (noSession) PutContent(_ context.Context, store, _ string, _ int64, _ io.Reader) error {
	return errNoClient("content store " + store)
}
