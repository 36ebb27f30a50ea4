package event

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/moby/moby/api/types/events"
)

func emit(b *Bus, i int) {
	b.Emit(events.ContainerEventType, events.ActionStart, strconv.Itoa(i), nil)
}

func TestReplayIsBoundedAndWithoutGap(t *testing.T) {
	var b Bus
	for i := range Kept + 10 {
		emit(&b, i)
	}
	ctx, cancel := context.WithCancel(t.Context())
	past, ch := b.Subscribe(ctx, time.Unix(1, 0))
	emit(&b, Kept+10)
	if len(past) != Kept || past[0].Actor.ID != "10" {
		t.Errorf("%d kept, the first is %s", len(past), past[0].Actor.ID)
	}
	if m := <-ch; m.Actor.ID != strconv.Itoa(Kept+10) || m.Time == 0 {
		t.Errorf("next event %+v", m)
	}
	if none, _ := b.Subscribe(ctx, time.Time{}); none != nil {
		t.Errorf("replayed %d though not asked to", len(none))
	}
	cancel()
	for range ch { // It is closed.
	}
}

// A reader that does not read is cut off; nobody waits for it.
func TestSlowReader(t *testing.T) {
	var b Bus
	_, slow := b.Subscribe(t.Context(), time.Time{})
	_, quick := b.Subscribe(t.Context(), time.Time{})
	for i := range 2 * pending {
		emit(&b, i)
		if m := <-quick; m.Actor.ID != strconv.Itoa(i) {
			t.Fatalf("event %s instead of %d", m.Actor.ID, i)
		}
	}
	n := 0
	for range slow {
		n++
	}
	if n != pending {
		t.Errorf("the slow reader got %d", n)
	}
}
