package build

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
)

func TestUsageAndPrune(t *testing.T) {
	w := newWorld(t)
	first := run(llb.Scratch(), "[1/2]", "first")
	w.must(run(first, "[2/2]", "second"))
	list, err := w.b.Usage(t.Context(), nil)
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	for _, r := range list {
		if r.Size <= 0 || r.Type != "regular" || r.InUse || r.Shared || r.Description == "" {
			t.Errorf("%+v", r)
		}
	}
	if one, err := w.b.Usage(t.Context(), []string{"description~=second"}); err != nil || len(one) != 1 || len(one[0].Parents) != 1 {
		t.Errorf("%+v, %v", one, err)
	}
	for _, bad := range []string{"colour==red", "id<3", "description~=["} {
		if _, err := w.b.Usage(t.Context(), []string{bad}); err == nil {
			t.Errorf("filter %q is accepted", bad)
		}
	}
	if won, err := w.b.Prune(t.Context(), PruneOptions{KeepFor: time.Hour}, nil); err != nil || won != 0 {
		t.Errorf("what was just used went: %d, %v", won, err)
	}
	var gone []string
	won, err := w.b.Prune(t.Context(), PruneOptions{Filters: []string{"description~=second"}}, func(r Record) { gone = append(gone, r.Description) })
	if err != nil || won <= 0 || fmt.Sprint(gone) != "[[2/2] RUN second]" {
		t.Errorf("%v, %d, %v", gone, won, err)
	}
	w.took()
	w.must(run(first, "[2/2]", "second"))
	if got := w.took(); got != "second" {
		t.Errorf("after a prune ran %q", got)
	}
	// By size the least recently used goes first.
	all, err := w.b.Usage(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	gone = nil
	if _, err := w.b.Prune(t.Context(), PruneOptions{Keep: all[0].Size}, func(r Record) { gone = append(gone, r.Description) }); err != nil || len(gone) != 1 {
		t.Errorf("%v, %v", gone, err)
	}
	if _, err := w.b.Prune(t.Context(), PruneOptions{All: true}, nil); err != nil {
		t.Error(err)
	}
	if list, err = w.b.Usage(t.Context(), nil); err != nil || len(list) != 0 {
		t.Errorf("left %v, %v", list, err)
	}
	for _, d := range w.cache.Layers() {
		t.Errorf("the cache still wants %s", d)
	}
}

func TestPruneSparesBuildsUnderWay(t *testing.T) {
	w := newWorld(t)
	pruned := make(chan error, 1)
	w.play["second"] = func(ctx context.Context) (string, error) {
		_, err := w.b.Prune(ctx, PruneOptions{All: true}, nil)
		pruned <- err
		return "", err
	}
	first := run(llb.Scratch(), "[1/2]", "first")
	w.must(first) // From the cache in the build that is measured.
	w.must(run(first, "[2/2]", "second"))
	if err := <-pruned; err != nil {
		t.Error(err)
	}
	w.took()
	w.must(first)
	if got := w.took(); got != "" {
		t.Errorf("ran %q", got)
	}
}

// A client that does not read holds up the command, not the daemon's memory.
func TestSlowReceiver(t *testing.T) {
	release := make(chan struct{})
	p := newProgress(func(*client.SolveStatus) { <-release })
	tr := p.internal("noisy")
	done := make(chan int)
	go func() {
		line := make([]byte, 64<<10)
		n := 0
		for range 3 * maxLogged / len(line) {
			_, _ = tr.log(1).Write(line)
			n += len(line)
		}
		done <- n
	}()
	select {
	case <-done:
		t.Error("everything was taken while nobody read")
	case <-time.After(50 * time.Millisecond):
	}
	p.mu.Lock()
	waiting := p.logged
	p.mu.Unlock()
	if waiting > maxLogged+64<<10 {
		t.Errorf("%d bytes wait", waiting)
	}
	close(release)
	<-done
	p.close()
}
