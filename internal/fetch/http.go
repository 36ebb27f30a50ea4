package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/sys"
)

// File is a file on the network.
type File struct {
	URL string
	// Checksum, when set, is what the content must have; if it is kept, nobody is asked.
	Checksum digest.Digest
	// Filename that it gets; empty means the one that the server or the URL tells.
	Filename string
	// Header is sent along; it may hold secrets, which are not sent to other hosts that the server redirects to.
	Header http.Header
}

// Content is what a file holds now.
type Content struct {
	Digest   digest.Digest
	Size     int64
	Filename string
	// LastModified as the server tells it; the zero time means that it does not.
	LastModified time.Time

	key string
}

// kept is what is known of a file that was downloaded.
type kept struct {
	URL          string
	ETag         string        `json:",omitempty"`
	LastModified string        `json:",omitempty"`
	Disposition  string        `json:",omitempty"`
	Final        string        // URL after redirects
	Digest       digest.Digest // of the content
	Size         int64
}

// maxRedirects is how many redirects are followed.
const maxRedirects = 10

func newClient(c Config) *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one
	t.ResponseHeaderTimeout = c.Stall
	t.MaxResponseHeaderBytes = 1 << 20
	t.DisableCompression = true // What is downloaded is what is there: a checksum is about that.
	return &http.Client{Transport: t, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) >= maxRedirects {
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		return checkScheme(r.URL)
	}}
}

func checkScheme(u *url.URL) error {
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%s is no http or https URL: %w", u.Redacted(), errdefs.ErrInvalidArgument)
	}
	return nil
}

// ResolveFile finds out what a file holds now, downloading it if it is not known or has changed.
func (s *Store) ResolveFile(ctx context.Context, f File) (*Content, error) {
	u, err := url.Parse(f.URL)
	if err != nil {
		return nil, fmt.Errorf("download: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if err := checkScheme(u); err != nil {
		return nil, fmt.Errorf("download: %w", err)
	}
	if f.Checksum != "" {
		if err := f.Checksum.Validate(); err != nil {
			return nil, fmt.Errorf("checksum of %s: %w: %w", u.Redacted(), err, errdefs.ErrInvalidArgument)
		}
	}
	key := "http/" + nameOf(f.URL, headerKey(f.Header))
	release, err := s.hold(ctx, key)
	if err != nil {
		return nil, err
	}
	defer release()
	dir := filepath.Join(s.config.Dir, key)
	k := readKept(dir)
	if k == nil || f.Checksum == "" || k.Digest != f.Checksum {
		if k, err = s.revalidate(ctx, f, u, dir, k); err != nil {
			return nil, err
		}
	}
	touch(dir)
	if f.Checksum != "" && k.Digest != f.Checksum {
		if f.Checksum.Algorithm() == digest.SHA256 {
			return nil, checksumFault(u, f.Checksum, k.Digest)
		}
		other, err := digestOf(filepath.Join(dir, "body"), f.Checksum.Algorithm())
		if err != nil {
			return nil, err
		}
		if other != f.Checksum {
			return nil, checksumFault(u, f.Checksum, other)
		}
	}
	c := &Content{Digest: k.Digest, Size: k.Size, Filename: fileName(f.Filename, k), key: key}
	if t, err := http.ParseTime(k.LastModified); err == nil {
		c.LastModified = t
	}
	return c, nil
}

func checksumFault(u *url.URL, want, got digest.Digest) error {
	return &fault.Error{
		Code: "checksum-mismatch", What: "cannot use " + u.Redacted(), Cause: "digest mismatch " + got.String() + ": " + want.String(),
		Try:   "if the new content is right, put --checksum=" + got.String() + " into the Dockerfile",
		Class: errdefs.ErrInvalidArgument,
	}
}

func digestOf(file string, a digest.Algorithm) (digest.Digest, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return a.FromReader(f)
}

// headerKey keeps apart what different headers (credentials, wished types) may have got.
func headerKey(h http.Header) string {
	if len(h) == 0 {
		return ""
	}
	var b strings.Builder
	_ = h.Write(&b) // a Builder takes everything; the keys are sorted
	return b.String()
}

func readKept(dir string) *kept {
	raw, err := os.ReadFile(filepath.Join(dir, "meta"))
	if err != nil {
		return nil
	}
	k := new(kept)
	if json.Unmarshal(raw, k) != nil {
		return nil
	}
	if fi, err := os.Stat(filepath.Join(dir, "body")); err != nil || fi.Size() != k.Size {
		return nil
	}
	return k
}

// revalidate asks the server whether what is kept is what it has, and downloads it otherwise.
func (s *Store) revalidate(ctx context.Context, f File, u *url.URL, dir string, old *kept) (*kept, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("download: %w", err)
	}
	for key, values := range f.Header {
		r.Header[http.CanonicalHeaderKey(key)] = values
	}
	if r.Header.Get("User-Agent") == "" {
		r.Header.Set("User-Agent", s.config.UserAgent)
	}
	if old != nil {
		if old.ETag != "" {
			r.Header.Set("If-None-Match", old.ETag)
		} else if old.LastModified != "" {
			r.Header.Set("If-Modified-Since", old.LastModified)
		}
	}
	resp, err := s.client.Do(r)
	if err != nil {
		return nil, unreachable(ctx, u, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && old != nil:
		return old, nil
	case resp.StatusCode != http.StatusOK:
		return nil, refused(u, resp)
	}
	k := &kept{
		URL: u.Redacted(), ETag: resp.Header.Get("ETag"), LastModified: resp.Header.Get("Last-Modified"),
		Disposition: resp.Header.Get("Content-Disposition"), Final: resp.Request.URL.Path,
	}
	if err := s.download(ctx, cancel, resp, dir, k); err != nil {
		return nil, unreachable(ctx, u, err)
	}
	return k, nil
}

// unreachable says why nothing came.
func unreachable(ctx context.Context, u *url.URL, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = cause
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // without the URL, which may hold a password
	}
	return fmt.Errorf("download %s: %w", u.Redacted(), err)
}

// refused turns a status into a class.
func refused(u *url.URL, resp *http.Response) error {
	var err error = errdefs.ErrUnavailable
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		err = errdefs.ErrNotFound
	case http.StatusUnauthorized:
		err = errdefs.ErrUnauthenticated
	case http.StatusForbidden:
		err = errdefs.ErrPermissionDenied
	}
	return fmt.Errorf("download %s: the server answers %s: %w", u.Redacted(), resp.Status, err)
}

// download writes the body and what is known of it, and puts both in place of what was kept.
func (s *Store) download(ctx context.Context, cancel context.CancelCauseFunc, resp *http.Response, dir string, k *kept) error {
	if resp.ContentLength > s.config.MaxSize {
		return tooLarge(s.config.MaxSize)
	}
	tmp, err := s.temp()
	if err != nil {
		return err
	}
	defer func() { _ = sys.RemoveTree(tmp) }() // or Open does
	f, err := os.OpenFile(filepath.Join(tmp, "body"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	sum := digest.SHA256.Digester()
	body := newStallReader(resp.Body, s.config.Stall, cancel)
	defer body.stop()
	k.Size, err = io.Copy(io.MultiWriter(f, sum.Hash()), io.LimitReader(body, s.config.MaxSize+1))
	err = errors.Join(err, f.Close())
	switch {
	case err != nil:
		return err
	case k.Size > s.config.MaxSize:
		return tooLarge(s.config.MaxSize)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	k.Digest = sum.Digest()
	raw, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tmp, "meta"), raw, 0o600); err != nil {
		return err
	}
	if err := sys.RemoveTree(dir); err != nil {
		return err
	}
	return os.Rename(tmp, dir)
}

func tooLarge(limit int64) error {
	return fmt.Errorf("it is larger than %d bytes: %w", limit, errdefs.ErrResourceExhausted)
}

// stallReader ends a download of which nothing comes any more.
type stallReader struct {
	r     io.Reader
	d     time.Duration
	timer *time.Timer
}

func newStallReader(r io.Reader, d time.Duration, cancel context.CancelCauseFunc) *stallReader {
	return &stallReader{r, d, time.AfterFunc(d, func() {
		cancel(fmt.Errorf("nothing came for %s: %w", d, errdefs.ErrUnavailable))
	})}
}

func (s *stallReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if n > 0 {
		s.timer.Reset(s.d)
	}
	return n, err
}

func (s *stallReader) stop() { s.timer.Stop() }
