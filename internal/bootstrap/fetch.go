package bootstrap

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/debian"
	"github.com/kistdev/kist/internal/fault"
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

// file gets a file whose size and hash are known: what is returned has both. got is told how many bytes have come, and less
// than nothing when some have to come again.
func (f *fetcher) file(ctx context.Context, u *url.URL, want debian.File, got func(n int64)) (*os.File, error) {
	tmp, err := f.temp()
	if err != nil {
		return nil, err
	}
	d := &download{f: f, u: u, want: want, got: got, tmp: tmp}
	d.restart()
	if err := f.repeat(ctx, u, func() error { return d.attempt(ctx) }); err != nil {
		_ = tmp.Close()
		return nil, err
	}
	return tmp, nil
}

// errDamaged is a file that is not what its hash says: a mirror that is being changed, or worse.
var errDamaged = errors.New("what came is not what the signed lists tell")

// download is one file on its way.
type download struct {
	f    *fetcher
	u    *url.URL
	want debian.File
	got  func(int64)
	tmp  *os.File
	sum  interface {
		io.Writer
		Sum([]byte) []byte
	}
	at int64
}

// restart throws away what came.
func (d *download) restart() {
	if d.at > 0 {
		d.got(-d.at)
	}
	d.sum, d.at = sha256.New(), 0
}

// attempt goes on where the last one broke.
func (d *download) attempt(ctx context.Context) error {
	r, err := d.f.open(ctx, d.u, d.at)
	if err != nil {
		return err
	}
	defer r.Close()
	if d.at > 0 && !r.partial {
		d.restart()
	}
	buf := make([]byte, 128<<10)
	for d.at <= d.want.Size {
		n, err := r.Read(buf)
		if n > 0 {
			if _, werr := d.tmp.WriteAt(buf[:n], d.at); werr != nil {
				return werr
			}
			_, _ = d.sum.Write(buf[:n]) // it never fails
			d.at += int64(n)
			d.got(int64(n))
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if d.at < d.want.Size {
		return io.ErrUnexpectedEOF
	}
	if [32]byte(d.sum.Sum(nil)) != d.want.SHA256 || d.at != d.want.Size {
		d.restart()
		return errDamaged
	}
	return nil
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

// statusError is a mirror's answer that is not the file.
type statusError struct{ code int }

func (e *statusError) Error() string {
	return fmt.Sprintf("the mirror answers %d %s", e.code, http.StatusText(e.code))
}

// Unwrap gives the class.
func (e *statusError) Unwrap() error {
	switch e.code {
	case http.StatusNotFound, http.StatusGone:
		return errdefs.ErrNotFound
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return errdefs.ErrPermissionDenied
	}
	return errdefs.ErrUnavailable
}

// again says whether another attempt may help.
func again(err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		return status.code >= 500 || status.code == http.StatusTooManyRequests || status.code == http.StatusRequestTimeout
	}
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return false
	}
	return !errdefs.IsPermissionDenied(err) && !errdefs.IsInvalidArgument(err) && !errors.Is(err, fs.ErrNotExist) &&
		!errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) && !errors.Is(err, unix.ECONNREFUSED)
}

// explain says what is wrong with a mirror that cannot be reached.
func (f *fetcher) explain(u *url.URL, err error) error {
	if err == nil {
		return nil
	}
	what := "cannot fetch " + u.Redacted()
	var dns *net.DNSError
	var status *statusError
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, errDamaged):
		return &fault.Error{
			Code: "bootstrap-mirror-damaged", What: what + ": " + err.Error(), Err: err, Class: errdefs.ErrDataLoss,
			Cause: fmt.Sprintf("after %d attempts its size or its SHA256 sum is still another one", attempts),
			Try:   "again in some minutes, if the mirror is just being updated; else another --mirror",
		}
	case errors.As(err, &status), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: %w", what, err)
	case errors.As(err, &dns):
		return unreachable(what+": no address is known for "+dns.Name, dns.Err, err)
	case f.isNetwork(err):
		return unreachable(what+": the mirror cannot be reached", text(err), err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func unreachable(what, cause string, err error) error {
	return &fault.Error{
		Code: "bootstrap-mirror-unreachable", What: what, Cause: cause, Err: err, Class: errdefs.ErrUnavailable,
		Try: "see whether this machine reaches the mirror; another one is given by --mirror, a proxy by HTTP_PROXY of the daemon or in apt's configuration (Acquire::http::Proxy)",
	}
}

func (f *fetcher) isNetwork(err error) bool {
	var op *net.OpError
	var u *url.Error
	return errors.As(err, &op) || errors.As(err, &u) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errStalled)
}

// text is the part of an error of net/http that tells something.
func text(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return err.Error()
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
