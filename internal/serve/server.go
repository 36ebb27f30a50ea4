package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/image"
	"github.com/kistdev/kist/internal/servemsg"
)

// shelf is the store behind the registry; image.Shelf is one.
type shelf interface {
	Repositories() []string
	Tags(repo string) ([]string, error)
	Manifest(repo, ref string) (ocispec.Descriptor, []byte, error)
	Referrers(repo string, subject digest.Digest) ([]ocispec.Descriptor, error)
	Put(ctx context.Context, p image.Put) (image.PutDone, error)
	Delete(ctx context.Context, repo, ref string) error
	Hold(d digest.Digest) (int64, error)
	File(d digest.Digest) (file, error)
	Stream(ctx context.Context, d digest.Digest) (io.ReadCloser, error)
	Upload() (upload, error)
}

type file interface {
	io.ReadSeekCloser
}

type upload interface {
	io.Writer
	Offset() int64
	Commit(want digest.Digest) error
	Close() error
}

// Options of a registry.
type Options struct {
	servemsg.Request
	// Report is told what clients do; it may be called from several goroutines. Nil is nobody.
	Report func(servemsg.Event)
}

// DefaultAddress is where a registry listens when nothing else is said.
const DefaultAddress = "127.0.0.1:5000"

// Server is a listening registry.
type Server struct {
	o       Options
	shelf   shelf
	close   func()
	users   *users
	uploads uploads
	l       net.Listener
}

// Listen opens the registry's socket.
func Listen(store *image.Store, o Options) (*Server, error) {
	if o.Address == "" {
		o.Address = DefaultAddress
	}
	s := &Server{o: o}
	if err := s.check(); err != nil {
		return nil, err
	}
	config, err := o.tls()
	if err != nil {
		return nil, err
	}
	if s.l, err = net.Listen("tcp", o.Address); err != nil {
		return nil, &fault.Error{
			Code: "registry-cannot-listen", What: "the registry cannot listen on " + o.Address, Cause: err.Error(),
			Try: "another --addr", Class: errdefs.ErrConflict, Err: err,
		}
	}
	if config != nil {
		s.l = tls.NewListener(s.l, config)
	}
	stock := store.Shelf()
	s.shelf, s.close = shelved{stock}, stock.Close
	return s, nil
}

// check refuses what would surprise.
func (s *Server) check() (err error) {
	host, _, err := net.SplitHostPort(s.o.Address)
	if err != nil {
		return fmt.Errorf("--addr %s: %w: %w", s.o.Address, err, errdefs.ErrInvalidArgument)
	}
	if s.users, err = parseUsers(s.o.Htpasswd); err != nil {
		return err
	}
	if s.o.Open || s.o.ReadOnly || s.users != nil || loopback(host) {
		return nil
	}
	return &fault.Error{
		Code: "registry-open", What: "everybody who reaches " + s.o.Address + " could replace the images of this machine",
		Cause: "it is no loopback address, and nobody is asked for a password", Class: errdefs.ErrInvalidArgument,
		Try: "--htpasswd FILE, or --read-only, or --anyone-may-push if that is what you want",
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (o *Options) tls() (*tls.Config, error) {
	if len(o.Cert) == 0 && len(o.Key) == 0 {
		return nil, nil
	}
	pair, err := tls.X509KeyPair(o.Cert, o.Key)
	if err != nil {
		return nil, fmt.Errorf("the registry's certificate: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}, nil
}

// Address is where the registry listens.
func (s *Server) Address() string { return s.l.Addr().String() }

// Run serves until ctx ends. Requests under way get a moment.
func (s *Server) Run(ctx context.Context) error {
	defer s.close()
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: 20 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		grace, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			_ = server.Close() // Whoever is cut off there goes on with the next registry.
		}
	})
	tick := time.NewTicker(uploadIdle / 4)
	defer tick.Stop()
	sweeping := make(chan struct{})
	go func() {
		defer close(sweeping)
		s.sweep(ctx, tick.C)
	}()
	err := server.Serve(s.l)
	if !stop() {
		<-ended
	}
	_ = server.Close()
	<-sweeping
	s.uploads.closeAll()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (s *Server) sweep(ctx context.Context, tick <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick:
			s.uploads.closeIdle(now.Add(-uploadIdle))
		}
	}
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	c := &call{s: s, w: w, r: r}
	if err := c.serve(); err != nil {
		c.fail(err)
	}
}

// call is one request.
type call struct {
	s    *Server
	w    http.ResponseWriter
	r    *http.Request
	user string
	repo string
}

func (c *call) serve() error {
	if err := c.authenticate(); err != nil {
		return err
	}
	path, ok := strings.CutPrefix(c.r.URL.Path, "/v2/")
	switch {
	case c.r.URL.Path == "/v2" || ok && path == "":
		return c.json(http.StatusOK, struct{}{})
	case !ok:
		return c.notFound()
	case path == "_catalog":
		return c.catalog()
	}
	return c.route(path)
}

// route finds the repository's name, which may have slashes, in front of what is asked for.
func (c *call) route(path string) error {
	if repo, ok := strings.CutSuffix(path, "/tags/list"); ok {
		c.repo = repo
		return c.tags()
	}
	for _, kind := range []struct {
		part  string
		serve func(string) error
	}{
		{"/manifests/", c.manifest}, {"/blobs/uploads/", c.upload}, {"/blobs/", c.blob}, {"/referrers/", c.referrers},
	} {
		if i := strings.LastIndex(path, kind.part); i > 0 {
			rest := path[i+len(kind.part):]
			if strings.Contains(rest, "/") {
				continue
			}
			c.repo = path[:i]
			return kind.serve(rest)
		}
	}
	if repo, ok := strings.CutSuffix(path, "/blobs/uploads"); ok {
		c.repo = repo
		return c.upload("")
	}
	return c.notFound()
}

func (c *call) notFound() error {
	return &refusal{status: http.StatusNotFound, code: "UNSUPPORTED", message: "this is an OCI registry; it serves /v2/"}
}

// writes refuses what a registry that is only read does not do.
func (c *call) writes() error {
	if !c.s.o.ReadOnly {
		return nil
	}
	return &refusal{status: http.StatusForbidden, code: "DENIED", message: "this registry is read-only"}
}

func (c *call) report(action, name, digest string) {
	if c.s.o.Report == nil {
		return
	}
	host, _, err := net.SplitHostPort(c.r.RemoteAddr)
	if err != nil {
		host = c.r.RemoteAddr
	}
	agent := c.r.UserAgent()
	c.s.o.Report(servemsg.Event{Action: action, Name: name, Digest: digest, From: host, User: c.user, Agent: agent[:min(len(agent), 200)]})
}
