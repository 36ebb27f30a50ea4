package keyed

import (
	"context"
	"errors"
	"sync"
	"testing"
)

func TestTurns(t *testing.T) {
	var turns Turns[string]
	inside := map[string]int{"a": 0, "b": 0}
	var total int
	var mu sync.Mutex
	var g sync.WaitGroup
	for i := range 64 {
		g.Go(func() {
			k := []string{"a", "b"}[i%2]
			release, err := turns.Take(t.Context(), k)
			if err != nil {
				t.Error(err)
				return
			}
			defer release()
			mu.Lock()
			inside[k]++
			if inside[k] != 1 {
				t.Errorf("%d at %s", inside[k], k)
			}
			mu.Unlock()
			mu.Lock()
			inside[k]--
			total++
			mu.Unlock()
		})
	}
	g.Wait()
	if total != 64 || len(turns.taken) != 0 {
		t.Errorf("%d had their turn, %d are left", total, len(turns.taken))
	}
	release, ok := turns.Try("a")
	if !ok {
		t.Fatal("nobody is there")
	}
	if _, ok := turns.Try("a"); ok {
		t.Error("somebody is there")
	}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := turns.Take(ctx, "a"); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
	release()
}
