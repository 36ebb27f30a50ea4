package content

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestSync(t *testing.T) {
	s := open(t, t.TempDir())
	big := bytes.Repeat([]byte("0123456789abcdef"), pushEvery/8) // Pushed to the disk on the way.
	for _, raw := range [][]byte{big, []byte("small"), []byte("gone")} {
		w := create(t, s, digest.FromBytes(raw), int64(len(raw)))
		for at := 0; at < len(raw); at += 1 << 20 {
			if _, err := w.Write(raw[at:min(len(raw), at+1<<20)]); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Delete(digest.FromString("gone")); err != nil {
		t.Fatal(err)
	}
	if len(s.unsafe) != 3 {
		t.Errorf("%d blobs are to be synced", len(s.unsafe))
	}
	for range 2 {
		if err := s.Sync(); err != nil {
			t.Error(err)
		}
	}
	if len(s.unsafe) != 0 {
		t.Errorf("%d blobs are still to be synced", len(s.unsafe))
	}
	if raw, err := s.Bytes(digest.FromBytes(big), int64(len(big))); err != nil || !bytes.Equal(raw, big) {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
}

func TestSyncThatFails(t *testing.T) {
	s := open(t, t.TempDir())
	s.unsafe["md5:nonsense"] = struct{}{}
	if err := s.Sync(); err == nil {
		t.Error("no error")
	}
	if len(s.unsafe) != 1 {
		t.Error("a blob that could not be synced is forgotten")
	}
}

func TestDropPartials(t *testing.T) {
	s := open(t, t.TempDir())
	busy := create(t, s, digest.FromString("busy"), 4)
	left := create(t, s, digest.FromString("left"), 4)
	discarded := create(t, s, digest.FromString("discarded"), 9)
	for _, w := range []*Writer{busy, left, discarded} {
		if _, err := w.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	left.Fail(context.Canceled)
	discarded.Discard(errors.New("of no use"))
	if n, err := s.Partial(); n != 2 || err != nil {
		t.Errorf("%d bytes in partial blobs, %v", n, err)
	}
	none, all := func(digest.Digest) bool { return false }, func(digest.Digest) bool { return true }
	if err := s.DropPartials(none); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Partial(); n != 2 || err != nil {
		t.Errorf("%d bytes in partial blobs, %v", n, err)
	}
	if err := s.DropPartials(all); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Partial(); n != 1 || err != nil {
		t.Errorf("%d bytes in partial blobs, %v", n, err)
	}
	if err := busy.Close(); err != nil {
		t.Error(err)
	}
}
