package build

import (
	"testing"
	"testing/synctest"

	"github.com/moby/buildkit/client/llb"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/fileop"
)

// TestUnsureResultsAreNotShared has a build that waits for another one's step, whose files change while they are copied: it must
// make the step itself, of its own files.
func TestUnsureResultsAreNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flights
		release := make(chan struct{})
		go func() {
			_, _, _ = f.do(t.Context(), "key", func() ([]output, bool, error) {
				<-release
				return []output{{Base: 1}}, false, nil
			})
		}()
		synctest.Wait()
		var second []output
		go func() {
			outs, shared, err := f.do(t.Context(), "key", func() ([]output, bool, error) { return []output{{Base: 2}}, true, nil })
			if shared || err != nil {
				t.Error(shared, err)
			}
			second = outs
		}()
		synctest.Wait() // It waits for the first one.
		close(release)
		synctest.Wait()
		if len(second) != 1 || second[0].Base != 2 {
			t.Errorf("another build's unsure result was taken: %v", second)
		}
	})
}

// TestRecordsStandOnWhatTheKeyNames has a step whose result has the layers of what was mounted, of which only files count. When more
// is there the next time, it must not be in the result.
func TestRecordsStandOnWhatTheKeyNames(t *testing.T) {
	w := newWorld(t)
	base := run(llb.Scratch(), "[base 1/1]", "base")
	tools := run(base, "[tools 1/1]", "same")
	final := func(mounted llb.State) llb.State {
		return run(run(base, "[final 1/2]", "same", llb.AddMount("/m", mounted, llb.SourcePath("/f"), llb.Readonly)), "[final 2/2]", "after")
	}
	w.must(final(tools))
	if got := w.took(); got != "after, base, same, same" {
		t.Errorf("ran %q", got)
	}
	w.must(final(run(tools, "[tools 2/2]", "more")))
	if got := w.took(); got != "more" { // What follows would run if the result had become another one.
		t.Errorf("ran %q", got)
	}
}

func TestOutputOfInputsThatCount(t *testing.T) {
	a, b := digest.FromString("a"), digest.FromString("b")
	inputs := []result{{Source: fileop.Source{Layers: []digest.Digest{a}}}, {Source: fileop.Source{Layers: []digest.Digest{a, b}}}}
	for i, want := range []output{{Base: 0, Added: []digest.Digest{b}}, {Base: 1, Added: []digest.Digest{}}} {
		got := outputOf([]digest.Digest{a, b}, inputs, func(in int) bool { return in <= i })
		if got.Base != want.Base || len(got.Added) != len(want.Added) {
			t.Errorf("with %d inputs: %+v", i+1, got)
		}
	}
}

// TestContextChangedUnderACommand changes a mounted directory while a command uses it: what was made is not remembered.
func TestContextChangedUnderACommand(t *testing.T) {
	w := newWorld(t)
	local := llb.Local("context", llb.WithCustomName("[internal] load build context"))
	st := run(run(llb.Scratch(), "[1/2]", "make", llb.AddMount("/src", local, llb.Readonly)), "[2/2]", "use")
	for _, step := range []struct {
		disturbed bool
		want      string
	}{{true, "make, use"}, {true, "make, use"}, {false, "make, use"}, {false, ""}} {
		w.disturbed = step.disturbed
		w.must(st)
		if got := w.took(); got != step.want {
			t.Errorf("disturbed: %v: ran %q, want %q", step.disturbed, got, step.want)
		}
	}
}
