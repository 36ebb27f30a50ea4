package bench

import (
	"testing"

	"github.com/kistdev/kist/internal/testbed"
)

// TestMachine measures a container beside a virtual machine that runs the same command: User-Mode Linux, one of the lightest
// there are, since it needs no emulated hardware. docs/concepts.md has the table.
func TestMachine(t *testing.T) {
	want(t, "machine")
	k := kist(t)
	if err := loaded(t, k, testbed.Busybox); err != nil {
		t.Fatal(err)
	}
	var most int64
	rows := []*row{
		{name: "kist run --rm", run: k.runner("run", "--rm", busybox, "true")},
		{name: "User-Mode Linux: boot, true, off", run: func() error {
			_, memory := testbed.Machine{}.Measure(t, "true")
			most = max(most, memory)
			return nil
		}},
	}
	race(10, rows)
	report(t, "container and virtual machine", rows)
	t.Logf("the virtual machine had at most %.1f MB of memory; `KIST_BENCH=idle` measures a container's", float64(most)/1e6)
}
