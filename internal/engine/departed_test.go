package engine

import (
	"strconv"
	"testing"
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
