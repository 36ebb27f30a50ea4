package bench

import (
	"runtime"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
	"github.com/kistdev/kist/internal/testbed/soak"
)

// soakTime is how long the soak goes on for.
const soakTime = 10 * time.Minute

// TestSoak asks kist for days' worth of calls in ten minutes, and prints what daemon and keeper hold at the beginning, each
// minute, and at the end. Unlike the measurements it asserts: that what they hold has not grown.
func TestSoak(t *testing.T) {
	want(t, "soak")
	h := testbed.NewHost(t)
	h.StartDaemon()
	s := soak.New(t, h, soak.Registry(t, h), 2)
	if _, err := s.Day(t.Context(), 0.02); err != nil {
		t.Fatalf("warming up: %v", err)
	}
	before, err := s.Measure(t.Context(), 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	t.Logf("%4.0f s: %s", 0.0, before)
	var days float64
	var chores int
	for time.Since(begin) < soakTime {
		const share = 0.05
		n, err := s.Day(t.Context(), share)
		chores += n
		if err != nil {
			t.Fatalf("after %d chores: %v", chores, err)
		}
		days += share
		now, err := s.Measure(t.Context(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%4.0f s: %s", time.Since(begin).Seconds(), now)
	}
	after, err := s.Measure(t.Context(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d chores, the work of %.1f days, in %.0f s on %d processors\nbefore: %s\nafter:  %s\n%s", chores, days, time.Since(begin).Seconds(), runtime.NumCPU(), before, after, s.Table())
	if more := after.More(before, 3); more != "" {
		t.Errorf("left behind: %s\n%s", more, s.Goroutines(t.Context()))
	}
	if now, old := after.Daemon.HeapBytes, before.Daemon.HeapBytes; now > old+old/4+4<<20 {
		t.Errorf("the daemon's heap has grown from %d to %d bytes", old, now)
	}
	if now, old := after.Keeper.HeapBytes, before.Keeper.HeapBytes; now > old+old/4+1<<20 {
		t.Errorf("the keeper's heap has grown from %d to %d bytes", old, now)
	}
}
