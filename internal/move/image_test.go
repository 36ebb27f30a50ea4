package move

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/movemsg"
)

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
