package move

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"github.com/kistdev/kist/internal/engine"
	"github.com/kistdev/kist/internal/event"
	"github.com/kistdev/kist/internal/image"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/movemsg"
	"github.com/kistdev/kist/internal/testbed"
	"github.com/kistdev/kist/internal/volume"
)

func TestMain(m *testing.M) {
	if dir, err := os.MkdirTemp("/dev/shm", "move-test-"); err == nil {
		os.Setenv("TMPDIR", dir)
	}
	code := m.Run()
	os.RemoveAll(os.Getenv("TMPDIR"))
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// noContainers is an engine without any.
type noContainers struct{ containers }

func (noContainers) Inspect(_ context.Context, name string, _ bool) (*engine.Inspection, error) {
	return nil, fmt.Errorf("No such container: %s: %w", name, errdefs.ErrNotFound)
}

type noNetworks struct{ networks }

func (noNetworks) Inspect(_ context.Context, name string) (*network.Inspect, error) {
	return nil, fmt.Errorf("no network %s: %w", name, errdefs.ErrNotFound)
}

func newMover(t testing.TB) *Mover {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skip: stores with layers need root")
	}
	dir := t.TempDir()
	layers, err := layer.Open(filepath.Join(dir, "layers"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { layers.Close() })
	images, err := image.Open(image.Options{Dir: filepath.Join(dir, "content"), Layers: layers})
	if err != nil {
		t.Fatal(err)
	}
	volumes, err := volume.Open(filepath.Join(dir, "volumes"), new(event.Bus))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { volumes.Close() })
	return &Mover{
		Images: images, Layers: layers, Volumes: volumes, Containers: noContainers{}, Networks: noNetworks{},
		Dir: filepath.Join(dir, "move"), Store: dir, Version: "test",
	}
}

func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// load gives the store an image of one plain layer with these files.
func (m *Mover) load(t testing.TB, name string, files map[string][]byte) *image.Image {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for n, data := range files {
		if err := w.WriteHeader(&tar.Header{Name: n, Size: int64(len(data)), Mode: 0o640, Typeflag: tar.TypeReg, Uid: 7}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	img, err := m.Images.Import(t.Context(), &b, image.ImportOptions{Ref: name})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// cable is a connection that may be cut.
type cable struct {
	net.Conn
	mu   sync.Mutex
	left int // bytes until it is cut; negative for never
}

func (c *cable) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left >= 0 && len(p) > c.left {
		n, _ := c.Conn.Write(p[:c.left])
		c.left = 0
		c.Close()
		return n, io.ErrClosedPipe
	}
	if c.left >= 0 {
		c.left -= len(p)
	}
	return c.Conn.Write(p)
}

// outcome is a move's end.
type outcome struct {
	result   *movemsg.Result
	failure  *movemsg.Failure
	said     []string
	received error
}

// between moves something, over a connection that is cut after so many bytes of the sender's.
func between(t testing.TB, from, to *Mover, req movemsg.Request, cut int) outcome {
	t.Helper()
	near, far := testbed.SocketPair(t)
	var o outcome
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.received = to.Receive(context.Background(), far)
		far.Close()
	}()
	from.Send(context.Background(), &req, &cable{Conn: near, left: cut}, func(l movemsg.Line) {
		switch {
		case l.Result != nil:
			o.result = l.Result
		case l.Failure != nil:
			o.failure = l.Failure
		case l.Say != "":
			o.said = append(o.said, l.Say)
		}
	})
	near.Close()
	<-done
	return o
}

func (m *Mover) file(t testing.TB, img *image.Image, name string) []byte {
	t.Helper()
	root, err := m.Layers.OpenStack(img.Layers)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	b, err := root.ReadFile(name, 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestImageArrivesWhole(t *testing.T) {
	for _, plain := range []bool{false, true} {
		a, b := newMover(t), newMover(t)
		big := noise(1, 3<<20)
		img := a.load(t, "app:1", map[string][]byte{"big": big, "small": []byte("x")})
		o := between(t, a, b, movemsg.Request{Kind: movemsg.Image, Name: "app:1", Plain: plain}, -1)
		if o.result == nil || o.result.ID != img.ID.String() || o.received != nil {
			t.Fatalf("%+v, %v", o.failure, o.received)
		}
		got, err := b.Images.Get(t.Context(), "app:1")
		if err != nil || got.ID != img.ID || got.Manifest.Digest != img.Manifest.Digest {
			t.Fatalf("%+v, %v", got, err)
		}
		if !bytes.Equal(b.file(t, got, "big"), big) {
			t.Error("the file is another one")
		}
		if left, _ := filepath.Glob(filepath.Join(b.Dir, "*", "*")); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
		o = between(t, a, b, movemsg.Request{Kind: movemsg.Image, Name: "app:1", Plain: plain}, -1)
		if o.result == nil || o.result.Sent > 20<<10 {
			t.Errorf("again: %+v", o)
		}
	}
}

func TestOnlyTheDifferenceIsSent(t *testing.T) {
	a, b := newMover(t), newMover(t)
	big := noise(2, 8<<20)
	a.load(t, "app:1", map[string][]byte{"big": big, "other": noise(3, 1<<20)})
	changed := bytes.Join([][]byte{big[:4<<20], []byte("a line more"), big[4<<20:]}, nil)
	second := a.load(t, "app:2", map[string][]byte{"moved/big": changed, "other": noise(3, 1<<20)})
	if o := between(t, a, b, movemsg.Request{Kind: movemsg.Image, Name: "app:1"}, -1); o.result == nil {
		t.Fatalf("%+v", o.failure)
	}
	o := between(t, a, b, movemsg.Request{Kind: movemsg.Image, Name: "app:2"}, -1)
	if o.result == nil {
		t.Fatalf("%+v", o.failure)
	}
	if o.result.Sent > 800<<10 || o.result.Size < 9<<20 {
		t.Errorf("sent %d of %d", o.result.Sent, o.result.Size)
	}
	got, err := b.Images.Get(t.Context(), "app:2")
	if err != nil || got.ID != second.ID || !bytes.Equal(b.file(t, got, "moved/big"), changed) {
		t.Errorf("%v, %v", got, err)
	}
	// What is known of a layer goes with it.
	if list, _ := filepath.Glob(filepath.Join(b.listings(), "*.pieces")); len(list) != 1 {
		t.Errorf("%q", list)
	}
}

func TestBrokenOffGoesOn(t *testing.T) {
	a, b := newMover(t), newMover(t)
	big := noise(4, 6<<20)
	img := a.load(t, "app:1", map[string][]byte{"big": big})
	req := movemsg.Request{Kind: movemsg.Image, Name: "app:1"}
	for _, cut := range []int{0, 100, 3 << 20, 2 << 20} {
		o := between(t, a, b, req, cut)
		if o.result != nil || o.failure == nil || o.received == nil {
			t.Fatalf("cut after %d: %+v", cut, o)
		}
		if _, err := b.Images.Get(t.Context(), "app:1"); !errdefs.IsNotFound(err) {
			t.Fatalf("half an image is seen: %v", err)
		}
		if len(b.Layers.All()) != 0 {
			t.Error("half a layer is there")
		}
	}
	o := between(t, a, b, req, -1)
	if o.result == nil || o.result.ID != img.ID.String() {
		t.Fatalf("%+v", o.failure)
	}
	if o.result.Sent > 3<<20 {
		t.Errorf("sent %d again", o.result.Sent)
	}
	if got, err := b.Images.Get(t.Context(), "app:1"); err != nil || !bytes.Equal(b.file(t, got, "big"), big) {
		t.Error("not the same", err)
	}
	if left, _ := filepath.Glob(filepath.Join(b.packs(), "*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestVolume(t *testing.T) {
	a, b := newMover(t), newMover(t)
	v, _, err := a.Volumes.Ensure(t.Context(), "data", "", map[string]string{"k": "v"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	big := filepath.Join(v.Mountpoint, "big")
	write := func(path string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(big, noise(5, 5<<20))
	req := movemsg.Request{Kind: movemsg.Volume, Name: "data"}
	if o := between(t, a, b, req, 2<<20); o.failure == nil {
		t.Fatal("arrived over a cut connection")
	}
	if _, err := b.Volumes.Inspect(t.Context(), "data"); !errdefs.IsNotFound(err) {
		t.Fatalf("half a volume is seen: %v", err)
	}
	o := between(t, a, b, req, -1)
	if o.result == nil || o.result.Sent > 4<<20 {
		t.Fatalf("%+v, %+v", o.result, o.failure)
	}
	w, err := b.Volumes.Inspect(t.Context(), "data")
	if err != nil || w.Labels["k"] != "v" {
		t.Fatalf("%+v, %v", w, err)
	}
	write(filepath.Join(v.Mountpoint, "more"), []byte("more"))
	if o = between(t, a, b, req, -1); o.failure == nil || o.failure.Code != "volume-name-taken" {
		t.Errorf("%+v", o)
	}
	req.Replace = true
	if o = between(t, a, b, req, -1); o.result == nil || o.result.Sent > 100<<10 {
		t.Errorf("%+v %+v", o.result, o.failure)
	}
	for _, name := range []string{"big", "more"} {
		want, _ := os.ReadFile(filepath.Join(v.Mountpoint, name))
		if got, err := os.ReadFile(filepath.Join(w.Mountpoint, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list, _ := os.ReadDir(filepath.Dir(filepath.Dir(w.Mountpoint))); len(list) != 1 {
		t.Errorf("left: %v", list)
	}
}

// fakeEngine has one container.
type fakeEngine struct {
	mu    sync.Mutex
	c     *engine.Inspection
	calls []string
	fail  string // the call that fails
}

func (f *fakeEngine) call(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, name)
	if name == f.fail {
		return errors.New(name + " failed")
	}
	return nil
}

func (f *fakeEngine) Inspect(_ context.Context, name string, _ bool) (*engine.Inspection, error) {
	if f.c == nil {
		return nil, fmt.Errorf("No such container: %s: %w", name, errdefs.ErrNotFound)
	}
	return f.c, nil
}

func (f *fakeEngine) CreateFilled(_ context.Context, name string, _ *ocispec.Platform, _ docker.CreateRequest, r io.Reader) (docker.CreateResponse, error) {
	_, err := io.Copy(io.Discard, r)
	return docker.CreateResponse{ID: "new-" + name}, errors.Join(err, f.call("create"))
}

func (f *fakeEngine) Start(context.Context, string) error { return f.call("start") }

func (f *fakeEngine) Stop(context.Context, string, engine.StopOptions) error { return f.call("stop") }

func (f *fakeEngine) Remove(context.Context, string, engine.RemoveOptions) error {
	return f.call("remove")
}

// running gives a store a running container with a volume.
func running(t testing.TB, m *Mover) *fakeEngine {
	t.Helper()
	img := m.load(t, "app:1", map[string][]byte{"file": noise(6, 100)})
	v, _, err := m.Volumes.Ensure(t.Context(), "data", "", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(v.Mountpoint, "f"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	id := digest.FromString("c").Encoded()
	if _, err := m.Layers.Prepare(t.Context(), id, img.Layers, layer.PrepareOptions{}); err != nil {
		t.Fatal(err)
	}
	c := &engine.Inspection{ID: id, State: &engine.State{State: &docker.State{Running: true}}}
	c.InspectResponse = docker.InspectResponse{
		Name: "/web", Image: img.ID.String(), Config: &docker.Config{Image: "app:1"},
		HostConfig: &docker.HostConfig{NetworkMode: "none", Binds: []string{"data:/d"}},
		Mounts:     []docker.MountPoint{{Type: "volume", Name: "data", Destination: "/d", RW: true}},
	}
	f := &fakeEngine{c: c}
	m.Containers = f
	return f
}

func TestContainerGoesOnHereUnlessItRunsThere(t *testing.T) {
	for _, tt := range []struct {
		name, fail string
		keep       bool
		here       string
		there      string
		volume     bool
	}{
		{"moved", "", false, "stop remove", "create start", true},
		{"kept", "", true, "stop start", "create start", true},
		{"cannot be made there", "create", false, "stop start", "create", false},
		{"cannot be started there", "start", false, "stop start", "create start remove", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := newMover(t), newMover(t)
			here, there := running(t, a), &fakeEngine{fail: tt.fail}
			b.Containers = there
			o := between(t, a, b, movemsg.Request{Kind: movemsg.Container, Name: "web", Keep: tt.keep}, -1)
			if (o.result != nil) != (tt.fail == "") {
				t.Fatalf("%+v %+v", o.result, o.failure)
			}
			if got := strings.Join(here.calls, " "); got != tt.here {
				t.Errorf("here: %s, want %s", got, tt.here)
			}
			if got := strings.Join(there.calls, " "); got != tt.there {
				t.Errorf("there: %s, want %s", got, tt.there)
			}
			if _, err := b.Volumes.Inspect(t.Context(), "data"); (err == nil) != tt.volume {
				t.Errorf("volume: %v", err)
			}
		})
	}
}

func TestContainerSurvivesAnyCut(t *testing.T) {
	for cut := 0; cut < 6000; cut += 331 {
		a, b := newMover(t), newMover(t)
		here, there := running(t, a), &fakeEngine{}
		b.Containers = there
		o := between(t, a, b, movemsg.Request{Kind: movemsg.Container, Name: "web"}, cut)
		runs := strings.Contains(strings.Join(there.calls, " "), "start") && !strings.Contains(strings.Join(there.calls, " "), "remove")
		stopped := strings.Contains(strings.Join(here.calls, " "), "stop") && !strings.Contains(strings.Join(here.calls, " "), "start")
		gone := strings.Contains(strings.Join(here.calls, " "), "remove")
		if gone && !runs || runs && !stopped {
			t.Errorf("cut after %d: here %q, there %q, %+v", cut, here.calls, there.calls, o.failure)
		}
		if o.failure != nil && stopped && o.failure.Code != "move-unknown-end" {
			t.Errorf("cut after %d: stopped here: %+v", cut, o.failure)
		}
	}
}

func TestRefusedContainers(t *testing.T) {
	a, b := newMover(t), newMover(t)
	here := running(t, a)
	try := func(code string) {
		t.Helper()
		o := between(t, a, b, movemsg.Request{Kind: movemsg.Container, Name: "web"}, -1)
		if o.failure == nil || o.failure.Code != code || len(here.calls) > 0 {
			t.Errorf("%s: %+v, %q", code, o.failure, here.calls)
		}
	}
	here.c.HostConfig.AutoRemove = true
	try("move-auto-remove")
	here.c.HostConfig.AutoRemove = false
	here.c.Mounts = append(here.c.Mounts, docker.MountPoint{Type: "bind", Source: "/srv", Destination: "/srv"})
	try("move-bind-mount")
	here.c.Mounts = here.c.Mounts[:1]
	b.Containers = &fakeEngine{c: here.c}
	here.c.State.Status = "running"
	try("container-name-taken")
	b.Store = a.Store
	try("move-same-store")
}

// TestHostileSender says wrong things to a receiver.
func TestHostileSender(t *testing.T) {
	hi := `{"hello":{"protocol":1,"store":"x"}}`
	layer := func(s string) string {
		return `{"image":{"Layers":[` + s + `],"Config":"e30=","Manifest":"e30=","ManifestType":"x"}}`
	}
	d := digest.FromString("x").String()
	for name, frames := range map[string][]frame{
		"nothing":            nil,
		"no greeting":        {{kind: kindEnd}},
		"no JSON":            {{kind: kindMessage, data: []byte("{")}},
		"newer":              {{kind: kindMessage, data: []byte(`{"hello":{"protocol":99}}`)}},
		"unknown":            {{kind: kindMessage, data: []byte(hi)}, {kind: kindMessage, data: []byte("{}")}},
		"bad digest":         {{kind: kindMessage, data: []byte(hi)}, {kind: kindMessage, data: []byte(layer(`{"diffID":"../../etc","blob":{"digest":"` + d + `"}}`))}},
		"negative size":      {{kind: kindMessage, data: []byte(hi)}, {kind: kindMessage, data: []byte(layer(`{"diffID":"` + d + `","blob":{"digest":"` + d + `","size":-5}}`))}},
		"too large":          {{kind: kindMessage, data: []byte(hi)}, {kind: kindMessage, data: []byte(layer(`{"diffID":"` + d + `","blob":{"digest":"` + d + `","size":900000000000000000}}`))}},
		"no image":           {{kind: kindMessage, data: []byte(hi)}, {kind: kindMessage, data: []byte(layer(""))}, {kind: kindMessage, data: []byte(`{"publish":true}`)}},
		"a volume's name":    {{kind: kindMessage, data: []byte(hi)}, {kind: kindMessage, data: []byte(`{"volume":{"Name":"../x"}}`)}},
		"an empty container": {{kind: kindMessage, data: []byte(hi)}, {kind: kindMessage, data: []byte(`{"container":{"Check":true}}`)}},
		"a wrong tar": {
			{kind: kindMessage, data: []byte(hi)},
			{kind: kindMessage, data: []byte(layer(`{"diffID":"` + d + `","blob":{"digest":"` + d + `","size":5},"made":true,"plain":true}`))},
			{kind: kindMessage, data: []byte(`{"tar":{"size":5}}`)},
			{kind: kindOps, data: []byte("\x01\x03abc")},
			{kind: kindEnd},
		},
		"a recipe inline": {
			{kind: kindMessage, data: []byte(hi)},
			{kind: kindMessage, data: []byte(`{"volume":{"Name":"data"}}`)},
			{kind: kindMessage, data: []byte(`{"tar":{"size":5}}`)},
			{kind: kindOps, data: append([]byte("\x02\x03"), make([]byte, 32)...)},
			{kind: kindEnd},
		},
		"no zstd": {
			{kind: kindMessage, data: []byte(hi)},
			{kind: kindMessage, data: []byte(`{"volume":{"Name":"data"}}`)},
			{kind: kindMessage, data: []byte(`{"tar":{"size":5}}`)},
			{kind: kindPacked, data: []byte("nonsense")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMover(t)
			near, far := testbed.SocketPair(t)
			done := make(chan error, 1)
			go func() {
				done <- m.Receive(context.Background(), far)
				far.Close()
			}()
			w, err := newWire(near, true)
			if err != nil {
				t.Fatal(err)
			}
			defer w.close()
			go func() { _, _ = io.Copy(io.Discard, near) }()
			for _, f := range frames {
				_ = w.write(f.kind, f.data)
			}
			_ = w.flush()
			near.(*net.UnixConn).CloseWrite()
			if err := <-done; err == nil {
				t.Error("nothing was wrong")
			}
			near.Close()
			list, err := m.Images.List(t.Context(), true, false, nil)
			if err != nil || len(list) > 0 || len(m.Layers.All()) > 0 {
				t.Errorf("%v, %v, %v", list, m.Layers.All(), err)
			}
			if vs, _, _ := m.Volumes.List(t.Context(), nil); len(vs) > 0 {
				t.Errorf("%v", vs)
			}
		})
	}
}

func FuzzReceive(f *testing.F) {
	raw, err := json.Marshal(&message{Hello: &hello{Protocol: 1, Store: "x"}})
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	w, err := newWire(&b, true)
	if err != nil {
		f.Fatal(err)
	}
	_ = w.write(kindMessage, raw)
	_ = w.write(kindMessage, []byte(`{"volume":{"Name":"data"}}`))
	_ = w.write(kindMessage, []byte(`{"tar":{"size":5}}`))
	_ = w.flush()
	w.close()
	f.Add(b.Bytes())
	m := newMover(f)
	f.Fuzz(func(_ *testing.T, in []byte) {
		_ = m.Receive(context.Background(), struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(in), io.Discard})
	})
}

func TestWhatNobodyComesBackForGoes(t *testing.T) {
	a, b := newMover(t), newMover(t)
	a.load(t, "app:1", map[string][]byte{"big": noise(7, 2<<20)})
	if o := between(t, a, b, movemsg.Request{Kind: movemsg.Image, Name: "app:1"}, 1<<20); o.failure == nil {
		t.Fatal("arrived over a cut connection")
	}
	kept := func() []string {
		list, err := filepath.Glob(filepath.Join(b.packs(), "*"))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if err := b.Tidy(); err != nil || len(kept()) != 1 {
		t.Fatalf("%v, %q", err, kept())
	}
	old := time.Now().Add(-2 * packKept)
	if err := os.Chtimes(kept()[0], old, old); err != nil {
		t.Fatal(err)
	}
	if err := b.Tidy(); err != nil || len(kept()) != 0 {
		t.Errorf("%v, %q", err, kept())
	}
}
