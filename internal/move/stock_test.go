package move

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/movemsg"
)

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
