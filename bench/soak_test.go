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

// poolRest is after how long the network namespaces that the daemon keeps ready, a descriptor each, are as few as at the beginning.
const poolRest = 90 * time.Second

// TestSoak asks kist for days' worth of calls in ten minutes, and prints what daemon and keeper hold at the beginning, every
// twentieth of a day, and at the end. Unlike the measurements it asserts: that they hold no more goroutines and descriptors at the end
// than at the beginning, and no more memory than after half of the time, when all that is kept up to a number has been filled.
func TestSoak(t *testing.T) {
	want(t, "soak")
	h := testbed.NewHost(t)
	h.StartDaemon()
	s := soak.New(t, h, soak.Registry(t, h), 2)
	measure := func(rest time.Duration) soak.Sample {
		t.Helper()
		m, err := s.Measure(t.Context(), rest)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if _, err := s.Day(t.Context(), 0.02); err != nil {
		t.Fatalf("warming up: %v", err)
	}
	first, begin := measure(3*time.Second), time.Now()
	t.Logf("%4.0f s: %s", 0.0, first)
	var middle soak.Sample
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
		now := measure(time.Second)
		if middle == (soak.Sample{}) && time.Since(begin) > soakTime/2 {
			middle = now
		}
		t.Logf("%4.0f s: %s", time.Since(begin).Seconds(), now)
	}
	last := measure(poolRest)
	t.Logf("%d chores, the work of %.1f days, in %.0f s on %d processors\nat first: %s\nin the middle: %s\nat last: %s\n%s",
		chores, days, time.Since(begin).Seconds(), runtime.NumCPU(), first, middle, last, s.Table())
	if more := last.More(first, 3); more != "" {
		t.Errorf("left behind: %s\n%s", more, s.Goroutines(t.Context()))
	}
	for _, p := range []struct {
		name     string
		now, old uint64
	}{
		{"daemon", last.Daemon.HeapBytes, middle.Daemon.HeapBytes}, {"keeper", last.Keeper.HeapBytes, middle.Keeper.HeapBytes},
	} {
		if p.now > p.old+p.old/10+500_000 {
			t.Errorf("the %s's heap has grown from %d to %d bytes in the second half", p.name, p.old, p.now)
		}
	}
}
