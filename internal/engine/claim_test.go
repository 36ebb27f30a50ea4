package engine

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	docker "github.com/moby/moby/api/types/container"

	"github.com/kistdev/kist/internal/layer"
)

// TestIDsBeginAsNoName looks at what a name that begins with a letter could be taken for: the second one of two "rm -f c17" must not
// find another container.
func TestIDsBeginAsNoName(t *testing.T) {
	for range 1000 {
		if id := newID(); id[0] < '0' || id[0] > '9' {
			t.Fatal(id)
		}
	}
}

// another creates a container of a name while one of that name is coming or going.
func (w *world) another(name string) chan error {
	done := make(chan error, 1)
	go func() {
		_, err := w.engine.Create(w.Context(), name, nil, docker.CreateRequest{Config: &docker.Config{Image: "test:1"}, HostConfig: &docker.HostConfig{}})
		done <- err
	}()
	return done
}

// early fails if there is an answer already.
func (w *world) early(done chan error) {
	w.Helper()
	select {
	case err := <-done:
		w.Errorf("an answer that may not hold: %v", err)
		done <- err
	case <-time.After(100 * time.Millisecond):
	}
}

// agrees checks that what a create has said about a name is so.
func (w *world) agrees(name string, err error) {
	w.Helper()
	if err != nil && !errdefs.IsConflict(err) {
		w.Fatal(err)
	}
	if _, found := w.engine.Inspect(w.Context(), name, false); found != nil {
		w.Errorf("create said %v, and inspect says %v", err, found)
	}
}

// TestNameOfOneThatIsBeingMade takes a name while another container gets it: the answer tells what came of that one.
func TestNameOfOneThatIsBeingMade(t *testing.T) {
	for _, fails := range []bool{true, false} {
		w := newWorld(t)
		r, feed := io.Pipe()
		first := make(chan error, 1)
		go func() {
			_, err := w.engine.CreateFilled(w.Context(), "one", nil, docker.CreateRequest{Config: &docker.Config{Image: "test:1"}, HostConfig: &docker.HostConfig{}}, r)
			first <- err
		}()
		w.until("the first one has the name", func() bool { return w.engine.index.named("one") })
		second := w.another("one")
		renamed := w.create("two", docker.Config{}, docker.HostConfig{})
		w.early(second)
		start := make(chan error, 1)
		go func() { start <- w.engine.Start(w.Context(), "one") }()
		w.early(start)
		if fails {
			w.ok(feed.CloseWithError(errors.New("the client has gone")))
		} else {
			_, err := feed.Write(make([]byte, 1024))
			w.ok(err)
			w.ok(feed.Close())
		}
		if err := <-first; (err != nil) != fails {
			t.Fatal(err)
		}
		if err := <-start; (err != nil) != fails {
			t.Errorf("start: %v", err)
		}
		err := <-second
		w.agrees("one", err)
		if isConflict(err) == fails {
			t.Errorf("the first one failed: %v, and the second: %v", fails, err)
		}
		if err := w.engine.Rename(t.Context(), renamed, "one"); !isConflict(err) {
			t.Errorf("rename: %v", err)
		}
	}
}

// TestNameOfOneThatIsBeingRemoved takes the name of a container that is on its way out.
func TestNameOfOneThatIsBeingRemoved(t *testing.T) {
	w := newWorld(t)
	w.create("one", docker.Config{}, docker.HostConfig{})
	c, release, err := w.engine.hold(t.Context(), "one")
	w.ok(err)
	_, err = c.enter(removing, nil)
	w.ok(err)
	second := w.another("one")
	w.early(second)
	w.ok(w.engine.dismantle(t.Context(), c, true, 0))
	release()
	if err := <-second; err != nil {
		t.Error(err)
	}
	w.agrees("one", nil)

	// One whose removal has failed is still there, and has its name.
	c, release, err = w.engine.hold(t.Context(), "one")
	w.ok(err)
	_, err = c.enter(removing, nil)
	w.ok(err)
	release()
	if err := <-w.another("one"); !isConflict(err) {
		t.Error(err)
	}
	w.agrees("one", errdefs.ErrConflict)
	w.ok(w.engine.dismantle(t.Context(), c, true, 0))
}

// TestNamesAfterACrash leaves what a daemon leaves that is killed while it makes or removes a container. Whatever the next one says
// about the name is so.
func TestNamesAfterACrash(t *testing.T) {
	for name, crash := range map[string]func(w *world){
		"before anything": func(*world) {},
		"before the row": func(w *world) {
			image, err := w.config.Images.Get(w.Context(), "test:1")
			w.ok(err)
			id := newID()
			_, err = w.config.Layers.Prepare(w.Context(), id, image.Layers, layer.PrepareOptions{})
			w.ok(err)
			w.ok(os.Mkdir(w.engine.home(id), 0o710))
		},
		"after the row":            func(w *world) { w.create("one", docker.Config{}, docker.HostConfig{}) },
		"after the row, with --rm": func(w *world) { w.create("one", docker.Config{}, docker.HostConfig{AutoRemove: true}) },
		"when the removal is noted": func(w *world) {
			w.create("one", docker.Config{Volumes: map[string]struct{}{"/v": {}}}, docker.HostConfig{})
			c, err := w.engine.index.find("one")
			w.ok(err)
			st, err := c.enter(removing, nil)
			w.ok(err)
			w.ok(w.engine.ledger.note(c.def, st))
		},
		"when the row is gone": func(w *world) {
			w.create("one", docker.Config{}, docker.HostConfig{})
			c, err := w.engine.index.find("one")
			w.ok(err)
			w.ok(w.engine.ledger.forget(c.def))
		},
		"when it runs": func(w *world) { w.run("one", docker.HostConfig{}, "sleep", "1000") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			crash(w)
			w.close()
			w.open()
			w.agrees("one", <-w.another("one"))
			w.close()
			w.open()
			w.agrees("one", <-w.another("one"))
			if err := w.engine.Start(t.Context(), "one"); err != nil && !errdefs.IsNotModified(err) {
				t.Error(err)
			}
			w.ok(w.engine.Remove(t.Context(), "one", RemoveOptions{Force: true, Volumes: true}))
			w.leftovers()
		})
	}
}
