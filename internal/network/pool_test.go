package network

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made atomic.Int32
		p := newPool(2, 8, func() (*parked, error) { made.Add(1); return &parked{}, nil })
		fill := func(want int32) {
			t.Helper()
			time.Sleep(2 * rest)
			synctest.Wait()
			if got := made.Load(); got != want {
				t.Errorf("%d made, want %d", got, want)
			}
		}
		if p.take() != nil {
			t.Error("something is ready before it was made")
		}
		fill(4) // found empty: twice as many
		for range 4 {
			if p.take() == nil {
				t.Error("the pool ran dry")
			}
		}
		fill(8)
		for range 10 {
			p.take()
		}
		fill(16) // never more than the most
		time.Sleep(10 * idle)
		for range 8 {
			p.take()
		}
		fill(18) // left alone: back to the least
		if left := p.close(); len(left) != 2 {
			t.Errorf("%d ready at the end", len(left))
		}
	})
}

func TestPoolThatCannotMake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		p := newPool(2, 8, func() (*parked, error) { tries++; return nil, errors.New("no") })
		time.Sleep(time.Second)
		synctest.Wait()
		if tries != 1 {
			t.Errorf("%d tries in a second that nobody asked in", tries)
		}
		if p.take() != nil {
			t.Error("something is ready")
		}
		p.close()
	})
}
