// Package bench measures kist beside Docker, podman and runc from Debian, all in one run, and prints medians and ratios.
// It asserts nothing: a noisy machine fails no build. Run it with `make bench`; KIST_BENCH names what to measure
// ("start,exec,load"; "all").
package bench

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
)

func TestMain(m *testing.M) {
	testbed.Main()
	os.Exit(m.Run())
}

// want skips a measurement that was not asked for.
func want(t *testing.T, name string) {
	t.Helper()
	asked := strings.Split(os.Getenv("KIST_BENCH"), ",")
	if !slices.Contains(asked, "all") && !slices.Contains(asked, name) {
		t.Skipf("skip: not asked for; set KIST_BENCH=%s or all", name)
	}
}

// row is one contestant of a measurement.
type row struct {
	name  string
	run   func() error
	times []time.Duration
	err   error
}

// race runs all contestants in turn, A B C A B C ..., so that a change of the machine's speed meets all of them.
func race(rounds int, rows []*row) {
	for i := range rounds + 1 {
		for _, r := range rows {
			if r.err != nil {
				continue
			}
			begin := time.Now()
			r.err = r.run()
			if i > 0 { // The first round warms up.
				r.times = append(r.times, time.Since(begin))
			}
		}
	}
}

func (r *row) median() time.Duration { return quantile(r.times, 0.5) }

func quantile(times []time.Duration, q float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Clone(times)
	slices.Sort(sorted)
	return sorted[int(q*float64(len(sorted)-1))]
}

// report prints medians, and how each compares to the first row, which is kist.
func report(t *testing.T, title string, rows []*row) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n%-34s %10s %10s %10s %10s\n", title, "", "min", "median", "p90", "kist is")
	for _, r := range rows {
		if r.err != nil {
			fmt.Fprintf(&b, "%-34s %v\n", r.name, r.err)
			continue
		}
		ratio := ""
		if r != rows[0] && rows[0].median() > 0 {
			ratio = fmt.Sprintf("1/%.2f", float64(r.median())/float64(rows[0].median()))
		}
		fmt.Fprintf(&b, "%-34s %10s %10s %10s %10s\n", r.name, ms(quantile(r.times, 0)), ms(r.median()), ms(quantile(r.times, 0.9)), ratio)
	}
	t.Log(b.String())
}

func ms(d time.Duration) string {
	if d >= 10*time.Second {
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}
