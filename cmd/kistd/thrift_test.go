package main

import "testing"

func TestAllowed(t *testing.T) {
	for live, want := range map[uint64]int{
		0: garbageBusy, 1 << 20: garbageBusy, 16 << 20: garbageBusy, 32 << 20: 100, 60 << 20: garbageIdle, 1 << 30: garbageIdle,
	} {
		if got := allowed(live); got != want {
			t.Errorf("%d MB in use: %d, want %d", live>>20, got, want)
		}
	}
}
