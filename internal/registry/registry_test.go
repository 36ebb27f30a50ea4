package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"github.com/kistdev/kist/internal/fault"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http/httptest.(*Server).goServe.func1"))
}

// client is impatient, and knows no credentials but those of dir's config.json.
func client(t *testing.T, o Options) *Client {
	t.Helper()
	o.Patience = time.Millisecond
	if o.DockerConfig == "" {
		o.DockerConfig = filepath.Join(t.TempDir(), "config.json")
	}
	if o.CertDirs == nil {
		o.CertDirs = []string{t.TempDir()}
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func repository(t *testing.T, c *Client, name string, auth *registry.AuthConfig) *Repository {
	t.Helper()
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Repository(context.Background(), named, auth)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func serve(t *testing.T, h http.HandlerFunc) (host string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func blob(raw []byte) ocispec.Descriptor {
	return ocispec.Descriptor{Digest: digest.FromBytes(raw), Size: int64(len(raw))}
}

var someBytes = bytes.Repeat([]byte("0123456789abcdef"), 40_000)

func TestDownloadGoesOnWhereItBroke(t *testing.T) {
	for _, tc := range []struct {
		name   string
		ranges bool // the server knows ranges
		from   int64
		most   int64 // how much may be sent in all
	}{
		{name: "ranges", ranges: true, most: int64(len(someBytes))},
		{name: "ranges from the middle", ranges: true, from: 300_000, most: int64(len(someBytes)) - 300_000},
		{name: "no ranges", most: 40 * int64(len(someBytes))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var sent, requests atomic.Int64
			host := serve(t, func(w http.ResponseWriter, r *http.Request) {
				n := requests.Add(1)
				start := 0
				status := http.StatusOK
				if raw := r.Header.Get("Range"); raw != "" && tc.ranges {
					first, _, _ := strings.Cut(strings.TrimPrefix(raw, "bytes="), "-")
					start, _ = strconv.Atoi(first)
					status = http.StatusPartialContent
					w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, len(someBytes)-1, len(someBytes)))
				}
				w.Header().Set("Content-Length", strconv.Itoa(len(someBytes)-start))
				w.WriteHeader(status)
				part := someBytes[start:]
				if n < 4 { // Broken off, further on each time.
					part = part[:min(len(part), int(n)*100_000)]
				}
				k, _ := w.Write(part)
				sent.Add(int64(k))
			})
			var got bytes.Buffer
			r := repository(t, client(t, Options{}), host+"/app", nil)
			if err := r.Download(context.Background(), blob(someBytes), tc.from, &got); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), someBytes[tc.from:]) {
				t.Errorf("%d bytes came, not the right ones", got.Len())
			}
			if sent.Load() > tc.most {
				t.Errorf("%d bytes were sent, %d would have done", sent.Load(), tc.most)
			}
		})
	}
}

func TestDownloadThatStalls(t *testing.T) {
	var requests atomic.Int64
	host := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 1 {
			w.Header().Set("Content-Length", strconv.Itoa(len(someBytes)))
			w.Write(someBytes[:1000])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(someBytes))
	})
	var got bytes.Buffer
	r := repository(t, client(t, Options{Stall: 50 * time.Millisecond}), host+"/app", nil)
	if err := r.Download(context.Background(), blob(someBytes), 0, &got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), someBytes) {
		t.Error("the bytes are wrong")
	}
}

func TestDownloadEnds(t *testing.T) {
	full := errors.New("disk full")
	host := serve(t, func(w http.ResponseWriter, r *http.Request) { w.Write(someBytes) })
	r := repository(t, client(t, Options{}), host+"/app", nil)
	if err := r.Download(context.Background(), blob(someBytes), 0, &failing{full}); !errors.Is(err, full) {
		t.Errorf("the writer's error got lost: %v", err)
	}
	var requests atomic.Int64
	host = serve(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("Content-Length", "1000")
		w.Write(nil)
	})
	r = repository(t, client(t, Options{}), host+"/app", nil)
	if err := r.Download(context.Background(), blob(someBytes), 0, io.Discard); err == nil || requests.Load() != attempts {
		t.Errorf("a server that never delivers: %v after %d requests", err, requests.Load())
	}
}

type failing struct{ err error }

func (f *failing) Write([]byte) (int, error) { return 0, f.err }

func TestBusyServerIsAskedAgain(t *testing.T) {
	for _, status := range []int{429, 500, 502, 503} {
		var requests atomic.Int64
		host := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if requests.Add(1) < 3 {
				w.WriteHeader(status)
				return
			}
			fmt.Fprint(w, `{"tags":["1"]}`)
		})
		tags, err := repository(t, client(t, Options{}), host+"/app", nil).Tags(context.Background())
		if err != nil || !slices.Equal(tags, []string{"1"}) {
			t.Errorf("%d: %v, %v", status, tags, err)
		}
	}
	host := serve(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(429) })
	_, err := repository(t, client(t, Options{}), host+"/app", nil).Tags(context.Background())
	if f, ok := fault.As(err); !ok || f.Code != "registry-rate-limit" || !errdefs.IsUnavailable(err) {
		t.Errorf("a server that stays busy: %v", err)
	}
}

func TestTagsPages(t *testing.T) {
	host := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("last") {
		case "":
			w.Header().Set("Link", `</v2/app/tags/list?last=b&n=2>; rel="next"`)
			fmt.Fprint(w, `{"tags":["a","b"]}`)
		case "b":
			w.Header().Set("Link", `<http://elsewhere.invalid/v2/app/tags/list?last=c>; rel="next"`)
			fmt.Fprint(w, `{"tags":["c"]}`)
		}
	})
	tags, err := repository(t, client(t, Options{}), host+"/app", nil).Tags(context.Background())
	if err != nil || !slices.Equal(tags, []string{"a", "b", "c"}) {
		t.Errorf("%v, %v", tags, err)
	}
}

func TestExplainConnection(t *testing.T) {
	c := client(t, Options{})
	for _, tc := range []struct {
		err  error
		code string
	}{
		{&net.DNSError{Err: "no such host", Name: "x", IsNotFound: true}, "registry-unknown-host"},
		{&net.DNSError{Err: "server misbehaving", Name: "x", IsTemporary: true}, "registry-no-dns"},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, "registry-refused"},
		{http.ErrSchemeMismatch, "registry-plain-http"},
		{io.ErrUnexpectedEOF, "registry-unreachable"},
	} {
		f, ok := fault.As(c.explainConnection("x", fmt.Errorf("get: %w", tc.err)))
		if !ok || f.Code != tc.code || !errors.Is(f, errdefs.ErrUnavailable) {
			t.Errorf("%v: %+v, want %s", tc.err, f, tc.code)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	_, err = repository(t, c, l.Addr().String()+"/app", nil).Tags(context.Background())
	if f, ok := fault.As(err); !ok || f.Code != "registry-refused" {
		t.Errorf("nothing listens: %v", err)
	}
}

func TestManifestIsVerified(t *testing.T) {
	host := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		fmt.Fprint(w, `{}`)
	})
	r := repository(t, client(t, Options{}), host+"/app", nil)
	d, raw, err := r.Manifest(context.Background(), "latest")
	if err != nil || string(raw) != "{}" || d.Digest != digest.FromString("{}") {
		t.Errorf("%v %q %v", d, raw, err)
	}
	if _, _, err := r.Manifest(context.Background(), digest.FromString("other").String()); !errdefs.IsDataLoss(err) {
		t.Errorf("wrong bytes: %v", err)
	}
}

func TestUpload(t *testing.T) {
	inner := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	var refuse atomic.Bool
	var patches atomic.Int64
	host := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PUT" && r.ContentLength > 1000 && refuse.Load() {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		if r.Method == "PATCH" {
			patches.Add(1)
		}
		inner.ServeHTTP(w, r)
	})
	ctx := context.Background()
	r := repository(t, client(t, Options{}), host+"/app", nil)
	for _, parts := range []bool{false, true} {
		refuse.Store(parts)
		raw := append([]byte(strconv.FormatBool(parts)), someBytes...)
		d := blob(raw)
		if there, err := r.Exists(ctx, d.Digest); there || err != nil {
			t.Fatalf("before: %v %v", there, err)
		}
		var most atomic.Int64
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
		if err := r.Upload(ctx, d, open, func(n int64) { most.Store(max(most.Load(), n)) }); err != nil {
			t.Fatal(err)
		}
		if there, err := r.Exists(ctx, d.Digest); !there || err != nil {
			t.Errorf("after: %v %v", there, err)
		}
		if most.Load() != d.Size {
			t.Errorf("progress ended at %d", most.Load())
		}
	}
	if patches.Load() == 0 {
		t.Error("nothing was sent in parts")
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{Mirrors: []string{"ftp://x"}},
		{Mirrors: []string{"x=y"}},
		{Mirrors: []string{"http://"}},
		{Insecure: []string{"10.0.0.0/99"}},
		{Insecure: []string{""}},
	} {
		if _, err := New(o); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	c := client(t, Options{Insecure: []string{"10.1.0.0/16", "reg.test:5000", "http://other.test/"}})
	for host, want := range map[string]bool{
		"localhost:1": true, "127.3.4.5": true, "[::1]:5000": true, "10.1.2.3:80": true, "10.2.0.1": false,
		"reg.test:5000": true, "REG.test:5000": true, "reg.test:5001": false, "other.test": true,
		dockerHost: false,
	} {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // No name is to be looked up here.
		if got := c.insecure(ctx, host); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
	if c.mirrors["docker.io"] != nil {
		t.Error("there is no mirror")
	}
}
