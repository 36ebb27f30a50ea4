package keeper

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// A keeper that was killed while it wrote a record leaves nothing behind.
func TestHalfARecord(t *testing.T) {
	r := newRig(t)
	half := filepath.Join(r.dir, "keeper", "tasks", r.id()+pidSuffix+tempSuffix)
	if err := os.WriteFile(half, []byte(`{"PI`), 0o600); err != nil {
		t.Fatal(err)
	}
	r.killKeeper()
	if _, err := os.Stat(half); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
}
