package engine

import (
	"strconv"
	"testing"
	"time"

	docker "github.com/moby/moby/api/types/container"

	"github.com/kistdev/kist/internal/db"
)

func TestDepartedKeepsTheLastOnes(t *testing.T) {
	d := newDeparted()
	const all = 3*departedKept + 7
	for i := range all {
		d.add(strconv.Itoa(i), i%256)
		d.add(strconv.Itoa(i), (i+1)%256) // told again
	}
	for i := range all {
		code, ok := d.code(strconv.Itoa(i))
		if ok != (i >= all-departedKept) || ok && code != (i+1)%256 {
			t.Fatalf("%d: %d, %v", i, code, ok)
		}
	}
	if len(d.codes) != departedKept || len(d.order) != departedKept {
		t.Errorf("%d codes, %d ids", len(d.codes), len(d.order))
	}
}

// What the ledger has left of endings is known to the next daemon, the newest of them.
func TestDepartedOutlivesTheDaemon(t *testing.T) {
	data, run := t.TempDir(), t.TempDir()
	l, err := openLedger(data, run, "boot")
	if err != nil {
		t.Fatal(err)
	}
	const all = departedKept + 5
	began := time.Now()
	err = l.fleeting.Update(func(tx *db.Tx) error {
		for i := range all {
			if err := endings.Put(tx, strconv.Itoa(i), &farewell{Code: i % 256, At: began.Add(time.Duration(i) * time.Second)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	d := &definition{ID: "last", HostConfig: &docker.HostConfig{AutoRemove: true}}
	if err := l.depart(d, farewell{Code: 42, At: began.Add(all * time.Second)}, "7"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time nothing is too much any more
		if err := l.close(); err != nil {
			t.Fatal(err)
		}
		if l, err = openLedger(data, run, "boot"); err != nil {
			t.Fatal(err)
		}
		known := newDeparted()
		if err := l.recall(known); err != nil {
			t.Fatal(err)
		}
		for id, want := range map[string]bool{"0": false, "4": false, "7": false, "8": true, strconv.Itoa(all - 1): true, "last": true} {
			if _, ok := known.code(id); ok != want {
				t.Errorf("%s is known: %v", id, ok)
			}
		}
		if code, _ := known.code("last"); code != 42 {
			t.Errorf("code %d", code)
		}
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
}
