package engine

import (
	"fmt"
	"testing"
	"time"
)

// Execs that have ended are forgotten, the oldest first: after a time, and when there are many.
func TestEndedExecsAreForgotten(t *testing.T) {
	r, c := newExecs(), &container{id: "c"}
	run := func(id string, quiet bool) *execution {
		x := &execution{id: id, c: c, quiet: quiet}
		r.add(x)
		x.begin()
		return x
	}
	open := run("open", false)
	for i := range execsKept + 100 {
		r.end(run(fmt.Sprint("ended-", i), false), i)
	}
	check := run("check", true)
	if got := r.of("c"); len(got) != 1 || got[0] != "open" {
		t.Errorf("open execs: %v", got)
	}
	if r.get("ended-0") != nil || r.get("open") != open || r.get(fmt.Sprint("ended-", execsKept+99)) == nil {
		t.Error("the oldest that have ended are to be forgotten, and no others")
	}
	r.end(check, 0)
	r.end(check, 1)
	if r.remove(check); len(r.ended) > execsKept+1 || len(r.byID) != len(r.ended)+1 || len(r.open) != 1 || check.code != 0 {
		t.Errorf("%d ended, %d by id, %d open, code %d", len(r.ended), len(r.byID), len(r.open), check.code)
	}
	for _, x := range r.ended {
		x.endAt = x.endAt.Add(-execKept - time.Second)
	}
	run("next", false)
	if len(r.ended) != 0 || len(r.byID) != 2 {
		t.Errorf("%d that ended long ago are kept", len(r.ended))
	}
}
