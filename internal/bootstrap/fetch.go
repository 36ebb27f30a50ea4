package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	attempts = 4
	// stall is how long a mirror may say nothing.
	stall = 60 * time.Second
	// connections to one mirror.
	connections = 6
	tempPattern = "fetch-*"
)

// fetcher gets files from mirrors, by apt's proxies and passwords.
type fetcher struct {
	dir       string
	userAgent string
	apt       *aptHost
	client    http.Client
	transport *http.Transport
	// patience is the pause before the second attempt; it doubles.
	patience time.Duration
}

func newFetcher(m *Maker, apt *aptHost) *fetcher {
	f := &fetcher{dir: m.cfg.Dir, userAgent: m.cfg.UserAgent, apt: apt, patience: m.patience}
	f.transport = &http.Transport{
		Proxy: f.proxy, MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections, DisableCompression: true,
		DialContext:         (&net.Dialer{Timeout: 20 * time.Second}).DialContext,
		TLSHandshakeTimeout: 20 * time.Second, ResponseHeaderTimeout: stall,
	}
	f.client = http.Client{Transport: f.transport, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > 10 || r.URL.Scheme != "http" && r.URL.Scheme != "https" || via[0].URL.Scheme == "https" && r.URL.Scheme == "http" {
			return fmt.Errorf("redirected to %s, which is not followed: %w", r.URL.Redacted(), errdefs.ErrPermissionDenied)
		}
		return nil
	}}
	return f
}

func (f *fetcher) close() { f.transport.CloseIdleConnections() }

// proxy is apt's for the host or the scheme, else that of the daemon's environment.
func (f *fetcher) proxy(r *http.Request) (*url.URL, error) {
	base := "Acquire::" + r.URL.Scheme + "::Proxy"
	for _, key := range []string{base + "::" + r.URL.Hostname(), base} {
		switch v := f.apt.conf.Get(key); v {
		case "":
		case "DIRECT", "false":
			return nil, nil
		default:
			return url.Parse(v)
		}
	}
	return http.ProxyFromEnvironment(r)
}

// temp makes a file that has no name, so that it goes with the process.
func (f *fetcher) temp() (*os.File, error) {
	fd, err := unix.Open(f.dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), filepath.Join(f.dir, "fetched")), nil
	}
	file, err := os.CreateTemp(f.dir, tempPattern)
	if err != nil {
		return nil, err
	}
	return file, os.Remove(file.Name())
}

// small gets a file of which nothing is known beforehand.
func (f *fetcher) small(ctx context.Context, u *url.URL, limit int64) ([]byte, error) {
	var raw []byte
	err := f.repeat(ctx, u, func() error {
		r, err := f.open(ctx, u, 0)
		if err != nil {
			return err
		}
		defer r.Close()
		raw, err = io.ReadAll(io.LimitReader(r, limit+1))
		if err == nil && int64(len(raw)) > limit {
			err = fmt.Errorf("it is larger than %d bytes: %w", limit, errdefs.ErrInvalidArgument)
		}
		return err
	})
	return raw, err
}

// repeat tries again what a network or a busy server broke.
func (f *fetcher) repeat(ctx context.Context, u *url.URL, fn func() error) error {
	wait := f.patience
	for n := 1; ; n++ {
		err := fn()
		if err == nil || n == attempts || !again(err) || ctx.Err() != nil {
			return f.explain(u, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		wait *= 2
	}
}

var errStalled = fmt.Errorf("nothing came for %s", stall)

// body is a file being read.
type body struct {
	io.ReadCloser
	partial bool // it begins where it was asked to
	watch   *time.Timer
	cancel  context.CancelCauseFunc
	ctx     context.Context //nolint:containedctx // of the one request that the body belongs to
}

// Read reads, and gives up when nothing comes.
func (b *body) Read(p []byte) (int, error) {
	if b.watch != nil {
		b.watch.Reset(stall)
	}
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && b.ctx != nil && errors.Is(context.Cause(b.ctx), errStalled) {
		err = errStalled
	}
	return n, err
}

// Close ends the request.
func (b *body) Close() error {
	if b.watch != nil {
		b.watch.Stop()
		b.cancel(nil)
	}
	return b.ReadCloser.Close()
}

// open reads a file from a byte on, if the mirror can do that.
func (f *fetcher) open(ctx context.Context, u *url.URL, from int64) (*body, error) {
	if u.Scheme == "file" || u.Scheme == "copy" {
		return openLocal(u.Path, from)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	r.Header.Set("User-Agent", f.userAgent)
	if from > 0 {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	if login, ok := f.apt.auth.Find(u.Scheme, u.Host, u.Path); ok && u.User == nil {
		r.SetBasicAuth(login.User, login.Password)
	}
	resp, err := f.client.Do(r)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	if resp.StatusCode != http.StatusOK && (resp.StatusCode != http.StatusPartialContent || !begins(resp, from)) {
		cancel(nil)
		_ = resp.Body.Close()
		return nil, &statusError{resp.StatusCode}
	}
	b := &body{ReadCloser: resp.Body, partial: resp.StatusCode == http.StatusPartialContent, cancel: cancel, ctx: ctx}
	b.watch = time.AfterFunc(stall, func() { cancel(errStalled) })
	return b, nil
}

func begins(resp *http.Response, from int64) bool {
	return from > 0 && strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", from))
}

// openLocal opens a file of a mirror that is a directory.
func openLocal(name string, from int64) (*body, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO is not waited for
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file: %w", name, errdefs.ErrInvalidArgument)
	}
	if err == nil && from > 0 {
		_, err = f.Seek(from, io.SeekStart)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &body{ReadCloser: f, partial: true}, nil
}
