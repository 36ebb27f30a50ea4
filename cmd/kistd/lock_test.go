package main

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// TestLock: a daemon waits for the one before it to let go, but not for one that stays.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kistd.lock")
	first, err := lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(path); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Fatalf("a second one: %v", err)
	}
	next := make(chan error)
	go func() {
		f, err := lock(path)
		if err == nil {
			err = f.Close()
		}
		next <- err
	}()
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if err := <-next; err != nil {
		t.Error(err)
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != strconv.Itoa(os.Getpid())+"\n" {
		t.Errorf("%q, %v", raw, err)
	}
}
