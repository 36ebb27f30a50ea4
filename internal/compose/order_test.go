package compose

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestInOrder(t *testing.T) {
	waits := map[string][]string{"web": {"db", "cache"}, "db": {"net"}, "cache": {"net"}, "lonely": {"nobody"}, "own": {"own"}}
	names := []string{"web", "db", "cache", "net", "lonely", "own"}
	var mu sync.Mutex
	var order []string
	err := inOrder(t.Context(), names, func(n string) []string { return waits[n] }, func(_ context.Context, n string) error {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, n)
		return nil
	})
	if err != nil || len(order) != len(names) {
		t.Fatal(order, err)
	}
	for name, list := range waits {
		for _, d := range list {
			if d != name && slices.Contains(order, d) && slices.Index(order, d) > slices.Index(order, name) {
				t.Errorf("%s before %s: %v", name, d, order)
			}
		}
	}
	var back []string
	err = inOrder(t.Context(), names, reversed(names, func(n string) []string { return waits[n] }), func(_ context.Context, n string) error {
		mu.Lock()
		defer mu.Unlock()
		back = append(back, n)
		return nil
	})
	if err != nil || slices.Index(back, "web") > slices.Index(back, "db") || slices.Index(back, "db") > slices.Index(back, "net") {
		t.Errorf("backwards: %v, %v", back, err)
	}
}

// TestInOrderFailure skips who waits for what failed, and nobody else.
func TestInOrderFailure(t *testing.T) {
	waits := map[string][]string{"web": {"db"}, "front": {"web"}, "other": {}}
	broken := errors.New("broken")
	var mu sync.Mutex
	var done []string
	err := inOrder(t.Context(), []string{"front", "web", "db", "other"}, func(n string) []string { return waits[n] }, func(_ context.Context, n string) error {
		mu.Lock()
		defer mu.Unlock()
		done = append(done, n)
		if n == "db" {
			return broken
		}
		return nil
	})
	slices.Sort(done)
	if !errors.Is(err, broken) || strings.Join(done, " ") != "db other" {
		t.Errorf("done %v, %v", done, err)
	}
	if strings.Count(err.Error(), "\n") != 0 {
		t.Errorf("one failure is told as %q", err)
	}
}

func TestInOrderCycle(t *testing.T) {
	waits := map[string][]string{"a": {"b"}, "b": {"c"}, "c": {"a"}}
	err := inOrder(t.Context(), []string{"a", "b", "c"}, func(n string) []string { return waits[n] }, func(context.Context, string) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "depends on itself") {
		t.Errorf("got %v", err)
	}
}
