package build

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/buildkit/client/llb"
	bkerrdefs "github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"go.uber.org/goleak"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/runstep"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEachStepRunsOnceAndUnusedOnesNever(t *testing.T) {
	w := newWorld(t)
	base := run(llb.Scratch(), "[base 1/1]", "base")
	left, right := run(base, "[left 1/1]", "left"), run(base, "[right 1/1]", "right")
	run(base, "[unused 1/1]", "unused")
	both := run(left, "[stage-3 1/1]", "both", llb.AddMount("/m", right, llb.Readonly))
	w.must(both)
	if got := w.took(); got != "base, both, left, right" {
		t.Errorf("ran %q", got)
	}
	w.must(both)
	if got := w.took(); got != "" {
		t.Errorf("nothing changed, and ran %q", got)
	}
	w.close()
	w.open()
	w.must(both)
	if got := w.took(); got != "" {
		t.Errorf("after a restart ran %q", got)
	}
}

func TestIndependentStepsRunSideBySide(t *testing.T) {
	w := newWorld(t)
	var both sync.WaitGroup
	both.Add(2)
	meet := func(context.Context) (string, error) { both.Done(); both.Wait(); return "", nil } // Hangs unless they meet.
	w.play["a"], w.play["b"] = meet, meet
	a, b := run(llb.Scratch(), "[a 1/1]", "a"), run(llb.Scratch(), "[b 1/1]", "b")
	w.must(run(a, "[c 1/1]", "c", llb.AddMount("/b", b, llb.Readonly)))
}

func TestSameBytesSpareTheStepsThatFollow(t *testing.T) {
	w := newWorld(t)
	same := func(context.Context) (string, error) { return "same", nil }
	w.play["make one"], w.play["make two"] = same, same
	w.must(run(run(llb.Scratch(), "[1/2]", "make one"), "[2/2]", "use"))
	w.took()
	r := w.must(run(run(llb.Scratch(), "[1/2]", "make two"), "[2/2]", "use"))
	if got := w.took(); got != "make two" {
		t.Errorf("ran %q", got)
	}
	if want := "1 of 2 steps cached; step 1 ran because the command changed"; r.Summary.Line != want {
		t.Errorf("%q, want %q", r.Summary.Line, want)
	}
}

func TestOneStepOfTwoBuildsRunsOnce(t *testing.T) {
	w := newWorld(t)
	begun, release := make(chan struct{}), make(chan struct{})
	w.play["long"] = func(context.Context) (string, error) { close(begun); <-release; return "", nil }
	st := run(llb.Scratch(), "[1/1]", "long")
	errs := make(chan error, 2)
	go func() { _, err := w.solve(t.Context(), st); errs <- err }()
	<-begun // A second run would close it again, and panic.
	go func() { _, err := w.solve(t.Context(), st); errs <- err }()
	time.Sleep(10 * time.Millisecond) // Most often the second one waits by now; if not, it finds the record.
	close(release)
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := w.took(); got != "long" {
		t.Errorf("ran %q", got)
	}
}

func TestCancelledBuildKeepsItsFinishedSteps(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.play["second"] = func(ctx context.Context) (string, error) { cancel(); <-ctx.Done(); return "", ctx.Err() }
	st := run(run(llb.Scratch(), "[1/2]", "first"), "[2/2]", "second")
	if _, err := w.solve(ctx, st); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	w.took()
	delete(w.play, "second")
	w.must(st)
	if got := w.took(); got != "second" {
		t.Errorf("ran %q", got)
	}
}

func TestFailureTellsWhere(t *testing.T) {
	w := newWorld(t)
	w.play["fails"] = func(context.Context) (string, error) {
		return "", &runstep.ExitError{Args: []string{"fails"}, Code: 3, Tail: "no such thing\n"}
	}
	file := llb.NewSourceMap(nil, "Dockerfile", "Dockerfile", []byte("FROM scratch\nRUN fails\n"))
	st := run(llb.Scratch(), "[1/1]", "fails", file.Location([]*pb.Range{{Start: &pb.Position{Line: 2}, End: &pb.Position{Line: 2}}}))
	_, err := w.solve(t.Context(), st)
	var step *StepError
	if !errors.As(err, &step) || step.ExitCode != 3 || step.Command != "fails" || string(step.Tail) != "no such thing\n" {
		t.Fatalf("%+v of %v", step, err)
	}
	if !strings.Contains(err.Error(), `process "fails" did not complete successfully: exit code: 3`) {
		t.Errorf("docker's words are missing: %v", err)
	}
	if s := bkerrdefs.Sources(err); len(s) != 1 || s[0].Info.Filename != "Dockerfile" {
		t.Errorf("sources %v", s)
	}
	var vertex *bkerrdefs.VertexError
	if !errors.As(err, &vertex) || vertex.Digest != step.Vertex.String() {
		t.Errorf("vertex %v", vertex)
	}
	var told string
	for _, e := range w.events {
		for _, v := range e.Vertexes {
			told += v.Error
		}
	}
	if !strings.Contains(told, "exit code: 3") {
		t.Errorf("progress does not tell the error: %q", told)
	}
}

func TestPanicIsContained(t *testing.T) {
	w := newWorld(t)
	w.play["bad"] = func(context.Context) (string, error) { panic("oops") }
	_, err := w.solve(t.Context(), run(llb.Scratch(), "[1/1]", "bad"))
	if f, ok := fault.As(err); !ok || f.Code != "build-bug" {
		t.Errorf("%v", err)
	}
	w.must(run(llb.Scratch(), "[1/1]", "good"))
}

func TestNoCacheRunsAgain(t *testing.T) {
	w := newWorld(t)
	st := run(llb.Scratch(), "[1/1]", "make")
	w.must(st)
	w.took()
	r := w.must(run(llb.Scratch(), "[1/1]", "make", llb.IgnoreCache))
	if got := w.took(); got != "make" {
		t.Errorf("ran %q", got)
	}
	if !strings.Contains(r.Summary.Line, "--no-cache") {
		t.Errorf("%q", r.Summary.Line)
	}
}

func TestExplanations(t *testing.T) {
	env := func(st llb.State, v string) llb.State { return st.AddEnv("VERSION", v) }
	for _, tc := range []struct {
		name          string
		before, after func(*world) llb.State
		want          string
	}{
		{"first build", nil, func(*world) llb.State { return run(llb.Scratch(), "[1/1]", "a") }, "0 of 1 steps cached; step 1 ran because it was never built here"},
		{"command", func(*world) llb.State { return run(llb.Scratch(), "[1/1]", "a") }, func(*world) llb.State { return run(llb.Scratch(), "[1/1]", "b") }, "0 of 1 steps cached; step 1 ran because the command changed"},
		{"variable", func(*world) llb.State { return run(env(llb.Scratch(), "1"), "[build 2/3]", "a") }, func(*world) llb.State { return run(env(llb.Scratch(), "2"), "[build 2/3]", "a") }, "0 of 1 steps cached; step 2 of build ran because VERSION changed"},
		{"one file", func(w *world) llb.State {
			w.write("a.txt", "1")
			w.write("b.txt", "1")
			return run(copied(llb.Scratch(), "[1/2]", "/"), "[2/2]", "use")
		}, func(w *world) llb.State {
			w.write("b.txt", "2")
			return run(copied(llb.Scratch(), "[1/2]", "/"), "[2/2]", "use")
		}, "0 of 2 steps cached; step 1 ran because b.txt changed"},
		{"a file that is not copied", func(w *world) llb.State {
			w.write("a.txt", "1")
			return copied(llb.Scratch(), "[1/1]", "a.txt")
		}, func(w *world) llb.State {
			w.write("other.txt", "1")
			return copied(llb.Scratch(), "[1/1]", "a.txt")
		}, "all 1 steps cached"},
		{"step put in front", func(*world) llb.State { return run(run(llb.Scratch(), "[1/2]", "a"), "[2/2]", "b") }, func(*world) llb.State {
			return run(run(run(llb.Scratch(), "[1/3]", "a"), "[2/3]", "new"), "[3/3]", "b")
		}, "1 of 3 steps cached; step 2 ran because it is new"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			if tc.before != nil {
				w.must(tc.before(w))
			}
			if got := w.must(tc.after(w)).Summary.Line; got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}
