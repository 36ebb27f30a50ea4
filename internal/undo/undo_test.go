package undo

import (
	"context"
	"errors"
	"slices"
	"testing"
)

func TestUnwindRunsInReverseAndOnce(t *testing.T) {
	var s Stack
	var got []string
	boom := errors.New("boom")
	s.Push("a", func(context.Context) error { got = append(got, "a"); return nil })
	s.Push("b", func(context.Context) error { got = append(got, "b"); return boom })
	s.Push("c", func(context.Context) error { got = append(got, "c"); return nil })
	if err := s.Unwind(t.Context()); !errors.Is(err, boom) {
		t.Errorf("Unwind = %v, want it to hold %v", err, boom)
	}
	if want := []string{"c", "b", "a"}; !slices.Equal(got, want) {
		t.Errorf("ran %v, want %v", got, want)
	}
	if err := s.Unwind(t.Context()); err != nil || len(got) != 3 {
		t.Errorf("second Unwind ran again: %v, %v", err, got)
	}
}

func TestUnwindOutlivesCancelledContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var s Stack
	var seen error
	s.Push("x", func(ctx context.Context) error { seen = ctx.Err(); return nil })
	if err := s.Unwind(ctx); err != nil || seen != nil {
		t.Errorf("compensation saw %v (Unwind %v), want a live context", seen, err)
	}
}

func TestReleaseKeepsEffects(t *testing.T) {
	var s Stack
	s.Push("x", func(context.Context) error { t.Error("ran after Release"); return nil })
	s.Release()
	if err := s.Unwind(t.Context()); err != nil {
		t.Fatal(err)
	}
}
