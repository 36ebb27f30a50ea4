package buildkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/session/secrets"
	"github.com/moby/buildkit/session/sshforward"
	"github.com/moby/buildkit/session/upload"
	"github.com/moby/buildkit/util/grpcerrors"
	apiregistry "github.com/moby/moby/api/types/registry"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/kistdev/kist/internal/build"
)

// How long a build waits for its client's session, which is opened beside it; and for credentials, for which a helper of
// the client may ask a person.
const (
	sessionPatience    = 10 * time.Second
	credentialPatience = time.Minute
)

// clientSession is a client's side of a build, as build wants it.
type clientSession struct {
	s      *Server
	id     string
	caller session.Caller

	mu     sync.Mutex // guards what follows
	locals map[string]*shared
}

// session finds the session of a build. A build without one has no client's side.
func (s *Server) session(ctx context.Context, id string) (build.Session, error) {
	if id == "" {
		return noSession{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, sessionPatience)
	defer cancel()
	caller, err := s.sessions.Get(ctx, id, false)
	if err != nil {
		return nil, grpcerrors.WrapCode(fmt.Errorf("the client's session: %w", err), codes.FailedPrecondition)
	}
	return &clientSession{s: s, id: id, caller: caller, locals: map[string]*shared{}}, nil
}

// ID implements build.Session.
func (c *clientSession) ID() string { return c.id }

// Secret implements build.Session.
func (c *clientSession) Secret(ctx context.Context, id string) ([]byte, error) {
	value, err := secrets.GetSecret(ctx, c.caller, id)
	if errors.Is(err, secrets.ErrNotFound) {
		return nil, fmt.Errorf("the client has no secret %q: %w", id, errdefs.ErrNotFound)
	}
	return value, err
}

// SSH implements build.Session.
func (c *clientSession) SSH(ctx context.Context, id string) (net.Conn, error) {
	if id == "" {
		id = sshforward.DefaultID
	}
	if err := sshforward.CheckSSHID(ctx, c.caller, id); err != nil {
		if code := grpcerrors.Code(err); code == codes.Unimplemented || code == codes.NotFound {
			return nil, fmt.Errorf("the client forwards no ssh agent %q: %w", id, errdefs.ErrNotFound)
		}
		return nil, err
	}
	near, far := net.Pipe()
	ctx = metadata.NewOutgoingContext(c.caller.Context(ctx), metadata.Pairs(sshforward.KeySSHID, id))
	ctx, cancel := context.WithCancel(ctx)
	stream, err := sshforward.NewSSHClient(c.caller.Conn()).ForwardAgent(ctx)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("forward the ssh agent %q: %w", id, errors.Join(err, near.Close(), far.Close()))
	}
	go func() {
		defer cancel()
		// Either end may go first, and whoever is left sees the end of the stream.
		_ = sshforward.Copy(ctx, far, stream, stream.CloseSend)
	}()
	return near, nil
}

// Credentials implements build.Session.
func (c *clientSession) Credentials(ctx context.Context, host string) (*apiregistry.AuthConfig, error) {
	ctx, cancel := context.WithTimeout(c.caller.Context(ctx), credentialPatience)
	defer cancel()
	resp, err := auth.NewAuthClient(c.caller.Conn()).Credentials(ctx, &auth.CredentialsRequest{Host: host})
	switch {
	case err != nil && grpcerrors.Code(err) == codes.Unimplemented:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("credentials for %s: %w", host, err)
	case resp.Username == "" && resp.Secret == "":
		return nil, nil
	case resp.Username == "": // A token that a registry gave for good.
		return &apiregistry.AuthConfig{ServerAddress: host, IdentityToken: resp.Secret}, nil
	}
	return &apiregistry.AuthConfig{ServerAddress: host, Username: resp.Username, Password: resp.Secret}, nil
}

// Upload implements build.Session: buildx sends a context that it reads from its standard input this way.
func (c *clientSession) Upload(ctx context.Context, rawURL string) (io.ReadCloser, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("uploaded context: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	ctx, cancel := context.WithCancel(ctx)
	up, err := upload.New(ctx, c.caller, u)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("uploaded context: %w", err)
	}
	r, w := io.Pipe()
	go func() {
		_, err := up.WriteTo(w)
		_ = w.CloseWithError(err)
	}()
	return &uploaded{PipeReader: r, cancel: cancel}, nil
}

// uploaded ends the transfer when it is closed.
type uploaded struct {
	*io.PipeReader
	cancel context.CancelFunc
}

// Close implements io.Closer.
func (u *uploaded) Close() error {
	u.cancel()
	return u.PipeReader.Close()
}
