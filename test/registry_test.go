package test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/testbed"
)

// machine is a host with a daemon, for tests that need more than a script can say.
type machine struct {
	t      *testing.T
	host   *testbed.Host
	daemon *testbed.Daemon
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	if _, err := os.Stat(filepath.Join(testbed.Bin(), "kist")); err != nil {
		t.Skip("skip: bin/kist is not built; run make build")
	}
	return &machine{t: t, host: testbed.NewHost(t)}
}

func (m *machine) data(path string) string { return filepath.Join(m.host.Dir, "data", path) }

// kist runs a command and returns what it wrote and its exit code.
func (m *machine) kist(args ...string) (out, errOut string, code int) {
	m.t.Helper()
	var o, e bytes.Buffer
	cmd := m.host.Command("kist", args...)
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.t.Fatal(err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// ok runs a command that must succeed.
func (m *machine) ok(args ...string) string {
	m.t.Helper()
	out, errOut, code := m.kist(args...)
	if code != 0 {
		m.t.Fatalf("kist %s: exit code %d\n%s", strings.Join(args, " "), code, errOut)
	}
	return out
}

// refused runs a command that must fail with this exit code and say all the words.
func (m *machine) refused(code int, words []string, args ...string) {
	m.t.Helper()
	_, errOut, got := m.kist(args...)
	if got != code {
		m.t.Errorf("kist %s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, errOut)
	}
	for _, w := range words {
		if !strings.Contains(errOut, w) {
			m.t.Errorf("kist %s does not say %q:\n%s", strings.Join(args, " "), w, errOut)
		}
	}
}

// nothingHalfMade checks that no image, layer or part of one is there.
func (m *machine) nothingHalfMade() {
	m.t.Helper()
	if out := m.ok("images", "-aq"); out != "" {
		m.t.Errorf("images: %s", out)
	}
	for _, pattern := range []string{"layers/t/*", "layers/l/*", "content/blobs/*/*", "content/ingest/*"} {
		var left []string
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			// The data root may be a mount that only the host sees.
			out, err := m.host.Try("sh", "-c", "ls -d "+m.data(pattern)+" 2>/dev/null || true")
			if err != nil {
				m.t.Fatal(err)
			}
			if left = strings.Fields(out); len(left) == 0 {
				break
			}
		}
		if len(left) > 0 {
			m.t.Errorf("left behind: %s", strings.Join(left, " "))
		}
	}
}

// store is a registry that can be made to misbehave. It counts what it delivers of blobs.
type store struct {
	http.Handler
	sent  atomic.Int64
	mu    sync.Mutex // guards what follows
	spoil func(w http.ResponseWriter, r *http.Request) http.ResponseWriter
}

func newStore() *store { return &store{Handler: ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))} }

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	spoil := s.spoil
	s.mu.Unlock()
	if strings.Contains(r.URL.Path, "/blobs/") && r.Method == http.MethodGet {
		w = &counting{w, &s.sent}
		if spoil != nil {
			w = spoil(w, r)
		}
	}
	s.Handler.ServeHTTP(w, r)
}

func (s *store) setSpoil(f func(w http.ResponseWriter, r *http.Request) http.ResponseWriter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spoil = f
}

type counting struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// serve answers on an address of the host.
func (m *machine) serve(address string, h http.Handler) {
	m.t.Helper()
	var l net.Listener
	err := m.host.Inside(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, ConnContext: func(ctx context.Context, c net.Conn) context.Context {
		// What waits here has not been sent to anybody.
		if err := c.(*net.TCPConn).SetWriteBuffer(64 << 10); err != nil {
			m.t.Error(err)
		}
		return ctx
	}}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	m.t.Cleanup(func() { _ = srv.Close(); <-done })
}

const at5000 = "127.0.0.1:5000"

// TestPullKilled kills the daemon with 90 % of an image fetched; the next pull fetches the rest, and again only what was on its way.
func TestPullKilled(t *testing.T) {
	const layers, size, most = 3, 32 << 20, 16 << 20
	s, m := newStore(), newMachine(t)
	s.push(t, "big", "1", noise(layers, size))
	m.serve(at5000, s)
	const all = layers * size
	stop := make(chan struct{})
	full := sync.OnceFunc(func() { close(stop) })
	s.setSpoil(func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
		return &gated{ResponseWriter: w, s: s, most: all * 9 / 10, until: r.Context().Done(), full: full}
	})
	m.daemon = m.host.StartDaemon()
	pulled := make(chan int, 1)
	go func() {
		_, _, code := m.kist("pull", "-q", at5000+"/big:1")
		pulled <- code
	}()
	select {
	case <-stop:
	case <-time.After(30 * time.Second):
		t.Fatal("the pull does not come to 90 %")
	}
	m.daemon.Kill()
	if code := <-pulled; code == 0 {
		t.Error("the pull succeeded although the daemon was killed")
	}
	first := s.sent.Swap(0)
	s.setSpoil(nil)
	m.daemon = m.host.StartDaemon()
	m.ok("pull", "-q", at5000+"/big:1")
	again := first + s.sent.Load() - all
	t.Logf("fetched %.1f MB, then %.1f MB: %.1f MB of %d MB again", mb(first), mb(s.sent.Load()), mb(again), all>>20)
	if again > most {
		t.Errorf("%.1f MB were fetched again", mb(again))
	}
	m.ok("rmi", at5000+"/big:1")
	m.nothingHalfMade()
}

func mb(n int64) float64 { return float64(n) / (1 << 20) }

// gated stops delivering when the store has sent enough.
type gated struct {
	http.ResponseWriter
	s     *store
	most  int64
	until <-chan struct{}
	full  func()
}

func (g *gated) Write(p []byte) (int, error) {
	done := 0
	for len(p) > done {
		if g.s.sent.Load() >= g.most {
			g.full()
			<-g.until
			return done, errors.New("killed")
		}
		n, err := g.ResponseWriter.Write(p[done:min(len(p), done+64<<10)])
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}

// TestFullDisk pulls and loads onto a file system that is too small, and then makes room.
func TestFullDisk(t *testing.T) {
	s, m := newStore(), newMachine(t)
	s.push(t, "big", "1", noise(2, 12<<20))
	m.serve(at5000, s)
	if err := os.Mkdir(m.data(""), 0o755); err != nil {
		t.Fatal(err)
	}
	m.host.Run("mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", m.data(""))
	m.daemon = m.host.StartDaemon()
	m.ok("pull", "-q", at5000+"/big:1")
	archive := filepath.Join(m.host.Dir, "big.tar")
	m.ok("save", "-o", archive, at5000+"/big:1")
	m.ok("rmi", at5000+"/big:1")
	m.nothingHalfMade()

	small := []string{"error:", "no space left on device", "cause:", m.data(""), "free of 31.46MB", "try:"}
	for _, args := range [][]string{{"pull", "-q", at5000 + "/big:1"}, {"load", "-q", "-i", archive}} {
		m.host.Run("mount", "-o", "remount,size=30m", m.data(""))
		m.refused(1, small, args...)
		m.nothingHalfMade()
		m.host.Run("mount", "-o", "remount,size=200m", m.data(""))
		m.ok(args...)
		m.ok("rmi", at5000+"/big:1")
		m.nothingHalfMade()
	}
}

// TestCorruptBlobs meets blobs that are not what their digest says, and registries that send half of them.
func TestCorruptBlobs(t *testing.T) {
	s, m := newStore(), newMachine(t)
	broken := s.push(t, "app", "1", noise(2, 1<<20))[1].Digest.String()
	m.serve(at5000, s)
	m.daemon = m.host.StartDaemon()
	for _, tc := range []struct {
		name  string
		write func(w io.Writer, r *http.Request, raw []byte) (int, error)
		final bool // nothing of it is of use to the next attempt
		words []string
	}{
		{"other bytes", func(w io.Writer, _ *http.Request, raw []byte) (int, error) {
			flipped := bytes.Clone(raw)
			flipped[len(flipped)/2] ^= 1
			return w.Write(flipped)
		}, true, []string{"error:", broken, "is corrupt", "cause:", "the bytes received have the digest"}},
		{"half of the bytes, and never more", func(w io.Writer, r *http.Request, raw []byte) (int, error) {
			if r.Header.Get("Range") == "" {
				_, _ = w.Write(raw[:len(raw)/2])
			}
			return 0, errors.New("cut")
		}, false, []string{"error:", "cannot reach registry " + at5000, "cause:"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m.t = t
			s.setSpoil(func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
				if strings.HasSuffix(r.URL.Path, broken) {
					return &spoiled{w, func(p []byte) (int, error) { return tc.write(w, r, p) }}
				}
				return w
			})
			m.refused(1, tc.words, "pull", "-q", at5000+"/app:1")
			if tc.final {
				m.nothingHalfMade()
			}
		})
	}
	m.t = t
	s.setSpoil(nil)
	m.ok("pull", "-q", at5000+"/app:1")
	m.ok("rmi", at5000+"/app:1")
	m.nothingHalfMade()
}

// TestLyingConfiguration pulls an image whose configuration promises other layers than its manifest has.
func TestLyingConfiguration(t *testing.T) {
	s, m := newStore(), newMachine(t)
	layers := noise(2, 1<<20)
	right, wrong := digest.FromBytes(layers[0]), digest.FromString("another layer")
	s.pushAs(t, "app", "1", layers, []digest.Digest{right, wrong})
	m.serve(at5000, s)
	m.daemon = m.host.StartDaemon()
	m.refused(1, []string{"error:", wrong.String(), "is corrupt: its content has digest " + digest.FromBytes(layers[1]).String()},
		"pull", "-q", at5000+"/app:1")
	m.nothingHalfMade()
}

// TestPlainHTTP allows plain HTTP where the user did.
func TestPlainHTTP(t *testing.T) {
	const registry = "10.99.0.1:5000"
	s, m := newStore(), newMachine(t)
	s.push(t, "app", "1", noise(1, 1<<10))
	m.address("10.99.0.1/32")
	m.serve(registry, s)
	m.daemon = m.host.StartDaemon()
	m.refused(1, []string{"error:", "cannot reach registry " + registry, "cause:", "plain HTTP", "try:", "--insecure-registry " + registry},
		"pull", "-q", registry+"/app:1")
	m.nothingHalfMade()
	m.daemon.Stop()
	m.daemon = m.host.StartDaemon("--insecure-registry", "10.99.0.0/24")
	m.ok("pull", "-q", registry+"/app:1")
}

type spoiled struct {
	http.ResponseWriter
	write func(p []byte) (int, error)
}

func (s *spoiled) Write(p []byte) (int, error) { return s.write(p) }

// TestCorruptArchives loads archives that are damaged in each of their parts.
func TestCorruptArchives(t *testing.T) {
	m := newMachine(t)
	whole, err := os.ReadFile(testbed.Busybox.MustArchive(t))
	if err != nil {
		t.Fatal(err)
	}
	m.daemon = m.host.StartDaemon()
	for _, tc := range []struct {
		name  string
		raw   []byte
		words []string
	}{
		{"cut off", whole[:len(whole)*2/3], []string{"error:", "the archive is cut off", "cause:", "try:"}},
		{"a layer's bytes are others", edit(t, whole, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }), []string{"error:", "is corrupt", "cause:"}},
		{"a layer is cut off", edit(t, whole, func(b []byte) []byte { return b[:len(b)/2] }), []string{"error:", "is corrupt", "cause:"}},
		{"no archive", []byte(strings.Repeat("no archive\n", 1000)), []string{"error:", "this is no image archive", "try:", "kist import"}},
		{"nothing", nil, []string{"error:", "this is no image archive"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m.t = t
			file := filepath.Join(t.TempDir(), "broken.tar")
			if err := os.WriteFile(file, tc.raw, 0o600); err != nil {
				t.Fatal(err)
			}
			m.refused(1, tc.words, "load", "-q", "-i", file)
			m.nothingHalfMade()
		})
	}
	m.t = t
	m.ok("load", "-q", "-i", testbed.Busybox.MustArchive(t))
	m.ok("run", "--rm", "kist.test/busybox", "true")
}

// edit changes the largest file of a tar: the layer.
func edit(t *testing.T, archive []byte, change func([]byte) []byte) []byte {
	t.Helper()
	type file struct {
		h   *tar.Header
		raw []byte
	}
	var files []*file
	largest := &file{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		f := &file{h, raw}
		if files = append(files, f); len(raw) > len(largest.raw) {
			largest = f
		}
	}
	largest.raw = change(largest.raw)
	largest.h.Size = int64(len(largest.raw))
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		if err := w.WriteHeader(f.h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.raw); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestNewAuthority reaches a registry whose authority becomes known while the daemon runs.
func TestNewAuthority(t *testing.T) {
	const registry = "10.99.0.1:5443" // Not a loopback address: those need no certificate.
	s, m := newStore(), newMachine(t)
	s.push(t, "app", "1", noise(1, 1<<10))
	m.address("10.99.0.1/32")
	m.writableEtc()
	authority := m.serveTLS(registry, s)
	m.daemon = m.host.StartDaemon()
	dir := "/etc/kist/certs.d/" + registry
	m.refused(1, []string{"error:", "cannot reach registry " + registry, "cause:", "unknown authority", "Chest Authority", "try:", dir + "/ca.crt"},
		"pull", "-q", registry+"/app:1")
	m.host.Run("mkdir", "-p", dir)
	m.host.Run("cp", authority, dir+"/ca.crt")
	m.ok("pull", "-q", registry+"/app:1")
	m.ok("rmi", registry+"/app:1")
	m.host.Run("sh", "-c", "echo nonsense >"+dir+"/ca.crt")
	m.refused(1, []string{"error:", dir + "/ca.crt holds no certificate"}, "pull", "-q", registry+"/app:1")
}

// address gives the host an address that is not a loopback one.
func (m *machine) address(prefix string) {
	m.t.Helper()
	if _, err := exec.LookPath("ip"); err != nil {
		m.t.Skip("skip: ip is not installed")
	}
	m.host.Run("ip", "address", "add", prefix, "dev", "lo")
}

// writableEtc lays a directory of the host's own over /etc.
func (m *machine) writableEtc() {
	m.t.Helper()
	upper, work := filepath.Join(m.host.Dir, "etc"), filepath.Join(m.host.Dir, "etc.work")
	m.host.Run("mkdir", upper, work)
	m.host.Run("mount", "-t", "overlay", "-o", fmt.Sprintf("lowerdir=/etc,upperdir=%s,workdir=%s", upper, work), "overlay", "/etc")
}
