package sys

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestOccupied(t *testing.T) {
	dir := t.TempDir()
	tree := os.DirFS(dir)
	count := func() int64 {
		t.Helper()
		n, err := Occupied(t.Context(), tree)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	empty := count()
	if err := os.WriteFile(filepath.Join(dir, "a"), bytes.Repeat([]byte("x"), 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	one := count()
	if one < empty+1<<16 {
		t.Errorf("%d bytes with a file of %d, %d without", one, 1<<16, empty)
	}
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if n := count(); n >= one+1<<16 {
		t.Errorf("a file of two names counts twice: %d, %d", n, one)
	}
	if n, err := Occupied(t.Context(), os.DirFS(filepath.Join(dir, "gone"))); n != 0 || err != nil {
		t.Errorf("what is not there: %d, %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Occupied(ctx, tree); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestRemoveTree(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 { // What is not there is no error.
		if err := RemoveTree(filepath.Join(dir, "a")); err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(dir); len(left) != 0 || err != nil {
		t.Errorf("%v, %v", left, err)
	}
	if err := RemoveTree(filepath.Join(dir, "x/y")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a directory that is not there: %v", err)
	}
}
