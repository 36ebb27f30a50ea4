package test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
	"github.com/kistdev/kist/internal/testbed/soak"
)

// TestSoak asks a daemon for twenty minutes' worth of what a busy machine asks it for in a day, among it all that breaks off in
// the middle: neither it nor the keeper has more goroutines or descriptors afterwards. `KIST_BENCH=soak make bench` takes ten
// minutes for days.
func TestSoak(t *testing.T) {
	if _, err := os.Stat(filepath.Join(testbed.Bin(), "kist")); err != nil {
		t.Skip("skip: bin/kist is not built; run make build")
	}
	h := testbed.NewHost(t)
	h.StartDaemon()
	s := soak.New(t, h, soak.Registry(t, h), 2)
	if _, err := s.Day(t.Context(), 0); err != nil { // Every chore, so that pools and caches are what they will be.
		t.Fatalf("warming up: %v", err)
	}
	before, err := s.Measure(t.Context(), 500*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	calls, err := s.Day(t.Context(), 1.0/72)
	if err != nil {
		t.Fatal(err)
	}
	var after soak.Sample
	for range 5 { // What ends by itself may take its time on a slow machine.
		if after, err = s.Measure(t.Context(), 500*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if after.More(before, 3) == "" {
			break
		}
	}
	t.Logf("%d chores\nbefore: %s\nafter:  %s\n%s", calls, before, after, s.Table())
	if more := after.More(before, 3); more != "" {
		t.Errorf("left behind: %s\n%s", more, s.Goroutines(t.Context()))
	}
}
