package layer

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// plant writes a file with a time of its own into a writable layer.
func plant(t *testing.T, s *Store, id, name string, body []byte) {
	t.Helper()
	at := filepath.Join(s.dir, "c", id, "u", name)
	must(t, os.MkdirAll(filepath.Dir(at), 0o755))
	must(t, os.WriteFile(at, body, 0o644))
	for _, p := range []string{at, filepath.Dir(at)} {
		ts := unix.NsecToTimespec(time.Unix(1_500_000_000, 0).UnixNano())
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{ts, ts}, 0))
	}
}

// versionsOf commits a large layer, and one over it in which the file at has another content.
func versionsOf(t *testing.T, s *Store, at string) (whole, over Committed) {
	t.Helper()
	prepare(t, s, "whole")
	for i := range 20 {
		plant(t, s, "whole", fmt.Sprintf("d/f%02d", i), bytes.Repeat([]byte{byte(i)}, 1<<20))
	}
	whole = commit(t, s, "whole", CommitOptions{})
	prepare(t, s, "over")
	plant(t, s, "over", at, []byte("changed"))
	over = commit(t, s, "over", CommitOptions{Under: whole.DiffID})
	return whole, over
}

// wholeVersion is the digest that a layer has that was not made over another one.
func wholeVersion(t *testing.T, at string) digest.Digest {
	t.Helper()
	s := open(t)
	prepare(t, s, "one")
	for i := range 20 {
		plant(t, s, "one", fmt.Sprintf("d/f%02d", i), bytes.Repeat([]byte{byte(i)}, 1<<20))
	}
	plant(t, s, "one", at, []byte("changed"))
	return commit(t, s, "one", CommitOptions{}).DiffID
}

func TestOver(t *testing.T) {
	for _, at := range []string{"d/f00", "d/f13", "d/f19", "d/f13a"} {
		s := open(t)
		whole, over := versionsOf(t, s, at)
		if want := wholeVersion(t, at); over.DiffID != want {
			t.Errorf("%s: %s over another layer, %s as a whole", at, over.DiffID, want)
		}
		if marks := s.readMarks(s.layers[over.DiffID]); len(marks) < 3 {
			t.Errorf("%s: %d marks", at, len(marks))
		}
		root, err := s.OpenStack([]digest.Digest{over.DiffID})
		must(t, err)
		for name, want := range map[string]string{at: "changed", "d/f07": string(bytes.Repeat([]byte{7}, 1<<20))} {
			if got, err := root.ReadFile(name, 2<<20); err != nil || string(got) != want {
				t.Errorf("%s: %s has %d bytes, %v", at, name, len(got), err)
			}
		}
		must(t, root.Close())
		if s.MayUnder(over.DiffID) || !s.MayUnder(whole.DiffID) {
			t.Error("what may lie under others is wrong")
		}
	}
}

// TestOverRefused has writable layers that are more than an addition.
func TestOverRefused(t *testing.T) {
	s := open(t)
	base := baseLayer(t, s)
	whole, _ := versionsOf(t, s, "d/f05")
	prepare(t, s, "gone", base)
	must(t, unix.Mknod(filepath.Join(s.dir, "c/gone/u/etc"), unix.S_IFCHR, 0))
	if _, err := s.Commit(t.Context(), "gone", CommitOptions{Under: whole.DiffID}); !errdefs.IsFailedPrecondition(err) {
		t.Error("a whiteout:", err)
	}
	must(t, s.Remove(t.Context(), "gone"))
}

// TestOverMarksDamaged damages the marks: the digest is the same, only later.
func TestOverMarksDamaged(t *testing.T) {
	s := open(t)
	whole, over := versionsOf(t, s, "d/f13")
	file := filepath.Join(s.dir, "l", s.layers[whole.DiffID].name, "k")
	raw, err := os.ReadFile(file)
	must(t, err)
	raw[len(raw)/2] ^= 1
	must(t, os.WriteFile(file, raw, 0o600))
	if s.readMarks(s.layers[whole.DiffID]) != nil {
		t.Fatal("damaged marks were read")
	}
	_, err = s.Collect(t.Context(), func(d digest.Digest) bool { return d == whole.DiffID })
	must(t, err)
	prepare(t, s, "again")
	plant(t, s, "again", "d/f13", []byte("changed"))
	if c := commit(t, s, "again", CommitOptions{Under: whole.DiffID}); c.DiffID != over.DiffID {
		t.Error("another digest:", c.DiffID)
	}
}

// TestOverLost opens a store after a crash of the machine that took the layer under another one.
func TestOverLost(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	must(t, err)
	whole, over := versionsOf(t, s, "d/f13")
	must(t, s.Sync(t.Context()))
	name := s.layers[whole.DiffID].name
	must(t, s.Close())
	must(t, os.RemoveAll(filepath.Join(dir, "l", name)))
	s, err = Open(dir)
	must(t, err)
	defer s.Close()
	if s.Has(over.DiffID) {
		t.Error("a layer is there of which only a part is")
	}
}
