package move

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	docker "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/engine"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/movemsg"
)

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
