package move

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/engine"
	"github.com/kistdev/kist/internal/event"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/image"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/movemsg"
	"github.com/kistdev/kist/internal/testbed"
	"github.com/kistdev/kist/internal/testbed/suite"
	"github.com/kistdev/kist/internal/volume"
)

func TestMain(m *testing.M) { suite.InMemory(m) }

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
	var entries []tar.Header
	for n, data := range files {
		entries = append(entries, tar.Header{Name: n, Mode: 0o640, Linkname: string(data), Uid: 7})
	}
	img, err := m.Images.Import(t.Context(), bytes.NewReader(testbed.Tar(t, entries...)), image.ImportOptions{Ref: name})
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
	failure  *fault.Parts
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
