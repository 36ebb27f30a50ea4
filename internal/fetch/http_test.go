package fetch

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, c Config) *Store {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	c.UserAgent = "kist/test"
	s, err := Open(c)
	ok(t, err)
	t.Cleanup(func() { ok(t, s.Close()) })
	return s
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// server answers with a text that can be changed, by ETag or by the time of the last change.
type server struct {
	*httptest.Server
	mu     sync.Mutex
	text   string
	byTime bool
	full   atomic.Int32 // answers with a body
}

func serve(t *testing.T) *server {
	t.Helper()
	s := &server{text: "one"}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		tag := fmt.Sprintf("%q", digest.FromString(s.text).Encoded())
		if s.byTime {
			w.Header().Set("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
			if r.Header.Get("If-Modified-Since") != "" {
				w.WriteHeader(http.StatusNotModified)
				return
			}
		} else {
			w.Header().Set("ETag", tag)
			if r.Header.Get("If-None-Match") == tag {
				w.WriteHeader(http.StatusNotModified)
				return
			}
		}
		switch r.URL.Path {
		case "/named":
			w.Header().Set("Content-Disposition", `attachment; filename="../../evil/name.txt"`)
		case "/moved":
			http.Redirect(w, r, "/files/final.tgz", http.StatusFound)
			return
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
			return
		case "/scheme":
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
			return
		case "/missing":
			http.NotFound(w, r)
			return
		case "/secret":
			if r.Header.Get("Authorization") != "Bearer x" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
		case "/stalls":
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("some"))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		case "/cut":
			w.Header().Set("Content-Length", "100")
		}
		s.full.Add(1)
		_, _ = w.Write([]byte(s.text))
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) set(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = text
}

func TestRevalidation(t *testing.T) {
	for _, byTime := range []bool{false, true} {
		srv := serve(t)
		srv.byTime = byTime
		dir := t.TempDir()
		s := open(t, Config{Dir: dir})
		for range 3 {
			c, err := s.ResolveFile(t.Context(), File{URL: srv.URL + "/a/file.txt"})
			ok(t, err)
			if c.Digest != digest.FromString("one") || c.Filename != "file.txt" || c.Size != 3 || c.LastModified.IsZero() == byTime {
				t.Errorf("%+v", c)
			}
		}
		_, err := open(t, Config{Dir: dir}).ResolveFile(t.Context(), File{URL: srv.URL + "/a/file.txt"})
		ok(t, err)
		if n := srv.full.Load(); n != 1 {
			t.Errorf("by time %v: downloaded %d times", byTime, n)
		}
		if byTime {
			continue
		}
		srv.set("two, longer")
		c, err := s.ResolveFile(t.Context(), File{URL: srv.URL + "/a/file.txt"})
		if err != nil || c.Digest != digest.FromString("two, longer") {
			t.Errorf("%+v, %v", c, err)
		}
	}
}

func TestNames(t *testing.T) {
	srv := serve(t)
	s := open(t, Config{})
	for _, c := range []struct{ path, wish, want string }{
		{"/dir/file", "", "file"},
		{"/dir/file?x=/y", "", "file"},
		{"/dir/file", "own", "own"},
		{"/named", "", "name.txt"},
		{"/moved", "", "final.tgz"},
		{"/", "", "download"},
		{"", "", "download"},
		{"/a%2f..%2f..%2fb", "", "b"},
		{"/x", "../../../etc/passwd", "passwd"},
	} {
		got, err := s.ResolveFile(t.Context(), File{URL: srv.URL + c.path, Filename: c.wish})
		if err != nil || got.Filename != c.want {
			t.Errorf("%s: %+v, %v, want %s", c.path, got, err, c.want)
		}
	}
}

func TestChecksum(t *testing.T) {
	srv := serve(t)
	s := open(t, Config{})
	f := File{URL: srv.URL + "/f", Checksum: digest.FromString("one")}
	for range 2 {
		_, err := s.ResolveFile(t.Context(), f)
		ok(t, err)
	}
	srv.set("two")
	_, err := s.ResolveFile(t.Context(), f)
	ok(t, err) // nobody was asked
	if srv.full.Load() != 1 {
		t.Error("asked again for what the checksum tells")
	}
	f.Checksum = digest.FromString("other")
	if _, err = s.ResolveFile(t.Context(), f); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), digest.FromString("two").String()) {
		t.Error(err)
	}
	sum := sha512.Sum512([]byte("two"))
	f.Checksum = digest.NewDigestFromBytes(digest.SHA512, sum[:])
	_, err = s.ResolveFile(t.Context(), f)
	ok(t, err)
	f.Checksum = "sha256:short"
	if _, err = s.ResolveFile(t.Context(), f); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
}

func TestPutFile(t *testing.T) {
	srv := serve(t)
	srv.byTime = true
	s := open(t, Config{})
	c, err := s.ResolveFile(t.Context(), File{URL: srv.URL + "/f"})
	ok(t, err)
	dir := t.TempDir()
	ok(t, s.PutFile(t.Context(), c, FileAttributes{Mode: 0o640, UID: os.Getuid(), GID: os.Getgid()}, dir))
	fi, err := os.Stat(filepath.Join(dir, "f"))
	ok(t, err)
	if fi.Mode() != 0o640 || fi.ModTime().Year() != 2015 {
		t.Error(fi.Mode(), fi.ModTime())
	}
	if raw, _ := os.ReadFile(filepath.Join(dir, "f")); string(raw) != "one" {
		t.Errorf("%q", raw)
	}
	list, err := s.List(t.Context())
	if err != nil || len(list) != 1 || list[0].Size == 0 {
		t.Fatal(list, err)
	}
	ok(t, s.Prune(t.Context(), list[0].Key))
	if err := s.PutFile(t.Context(), c, FileAttributes{}, t.TempDir()); !errdefs.IsAborted(err) {
		t.Error(err)
	}
	if err := s.Prune(t.Context(), "http/../../x"); err == nil {
		t.Error("left the store")
	}
}

func TestRefusals(t *testing.T) {
	srv := serve(t)
	s := open(t, Config{MaxSize: 1 << 10, Stall: 300 * time.Millisecond})
	srv.set("small")
	for _, c := range []struct {
		url  string
		is   func(error) bool
		text string
	}{
		{srv.URL + "/missing", errdefs.IsNotFound, "404"},
		{srv.URL + "/secret", errdefs.IsUnauthorized, "401"},
		{srv.URL + "/loop", func(err error) bool { return err != nil }, "redirects"},
		{srv.URL + "/scheme", errdefs.IsInvalidArgument, "no http"},
		{"file:///etc/passwd", errdefs.IsInvalidArgument, "no http"},
		{"://", errdefs.IsInvalidArgument, ""},
		{srv.URL + "/stalls", errdefs.IsUnavailable, "nothing came"},
		{srv.URL + "/cut", func(err error) bool { return err != nil }, "EOF"},
		{strings.Replace(srv.URL, "http://", "http://user:passw0rd@", 1) + "/missing", errdefs.IsNotFound, "xxxxx"},
	} {
		_, err := s.ResolveFile(t.Context(), File{URL: c.url})
		if !c.is(err) || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "passw0rd") {
			t.Errorf("%s: %v", c.url, err)
		}
	}
	if _, err := s.ResolveFile(t.Context(), File{URL: srv.URL + "/secret", Header: http.Header{"Authorization": {"Bearer x"}}}); err != nil {
		t.Error(err)
	}
	srv.set(strings.Repeat("x", 2<<10))
	if _, err := s.ResolveFile(t.Context(), File{URL: srv.URL + "/large"}); !errdefs.IsResourceExhausted(err) {
		t.Error(err)
	}
	if left, _ := os.ReadDir(filepath.Join(s.config.Dir, "t")); len(left) > 0 {
		t.Error("left:", left)
	}
}

func TestCancelledDownload(t *testing.T) {
	srv := serve(t)
	s := open(t, Config{})
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
	if _, err := s.ResolveFile(ctx, File{URL: srv.URL + "/stalls"}); !errors.Is(err, why) {
		t.Error(err)
	}
}
