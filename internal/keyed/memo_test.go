package keyed

import (
	"errors"
	"testing"
)

func TestMemo(t *testing.T) {
	m := NewMemo[int, string](3)
	for i := range 10 {
		m.Put(i, "old")
		m.Put(i, "new")
		if v, ok := m.Get(i); !ok || v != "new" {
			t.Fatalf("%d: %q, %v", i, v, ok)
		}
	}
	n := 0
	m.Each(func(string) { n++ })
	if n != 3 {
		t.Errorf("%d are kept, want 3", n)
	}
	if v, err := m.Read(9, func() (string, error) { return "", errors.New("was read") }); err != nil || v != "new" {
		t.Errorf("what is kept was read again: %q, %v", v, err)
	}
	broken := errors.New("broken")
	if _, err := m.Read(10, func() (string, error) { return "", broken }); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if v, err := m.Read(10, func() (string, error) { return "read", nil }); err != nil || v != "read" {
		t.Errorf("a failure was remembered: %q, %v", v, err)
	}
	if v, ok := m.Get(10); !ok || v != "read" {
		t.Errorf("%q, %v", v, ok)
	}
}
