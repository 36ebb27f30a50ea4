package task

import "testing"

func TestClaim(t *testing.T) {
	c := &Client{queue: newEventQueue(), claims: map[string]chan Exit{}, tasks: map[string]*holding{}}
	exit, release := c.Claim("step")
	c.notice(Event{Kind: EventOOM, ID: "step"})
	c.notice(Event{Kind: EventExit, ID: "step", ExecID: "x", Exit: &Exit{ID: "step", Code: 1}})
	for range 2 { // the second is a late word about the same exit
		c.notice(Event{Kind: EventExit, ID: "step", Exit: &Exit{ID: "step", Code: 3}})
	}
	c.notice(Event{Kind: EventExit, ID: "other", Exit: &Exit{ID: "other"}})
	if x := <-exit; x.Code != 3 {
		t.Errorf("%+v", x)
	}
	release()
	c.notice(Event{Kind: EventExit, ID: "step", Exit: &Exit{ID: "step"}})
	if len(c.queue.items) != 2 || c.queue.items[0].ID != "other" || c.queue.items[1].ID != "step" {
		t.Errorf("told by Events: %+v", c.queue.items)
	}
	select {
	case x := <-exit:
		t.Errorf("told after the release: %+v", x)
	default:
	}
}
