package treesum

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// age makes the files of a tree older than the clock's tick.
func age() { time.Sleep(2 * tick * time.Nanosecond) }

// reads says how many files a scan had to read.
func reads(t *testing.T, c *Cache, dir string) int {
	t.Helper()
	tree := scan(t, dir, "k", c, Filter{})
	if _, err := tree.Digest(t.Context(), Selection{Path: "/"}); err != nil {
		t.Fatal(err)
	}
	n := 0
	var count func(*Node)
	count = func(d *Node) {
		for _, k := range d.kids {
			if id := k.identity(); tree.cache.fresh[id] != (sum{}) {
				n++
			}
			count(k)
		}
	}
	count(tree.top)
	if err := tree.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestCacheRemembers(t *testing.T) {
	dir, store := diskDir(t), t.TempDir()
	plant(t, dir, "a=A", "d/b=B", "d/c=C", "l -> a")
	age()
	c, err := Open(store)
	if err != nil {
		t.Fatal(err)
	}
	if n := reads(t, c, dir); n != 5 {
		t.Error("first scan read", n)
	}
	if n := reads(t, c, dir); n != 0 {
		t.Error("second scan read", n)
	}
	plant(t, dir, "d/b=X")
	age()
	if n := reads(t, c, dir); n != 1 {
		t.Error("after one change a scan read", n)
	}
	if err := os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "z")); err != nil {
		t.Fatal(err)
	}
	age()
	if n := reads(t, c, dir); n > 1 { // renaming changes ctime
		t.Error("after a rename a scan read", n)
	}
}

// TestCacheSeesForgedTimes changes a file and puts its time and size back.
func TestCacheSeesForgedTimes(t *testing.T) {
	dir := t.TempDir()
	plant(t, dir, "a=one")
	age()
	c, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	first, err := digestWith(t, c, dir)
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(dir, "a")
	var st unix.Stat_t
	if err := unix.Stat(at, &st); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(at, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("two"), 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, at, []unix.Timespec{st.Atim, st.Mtim}, 0); err != nil {
		t.Fatal(err)
	}
	second, err := digestWith(t, c, dir)
	if err != nil || first == second {
		t.Error("a change with the time put back does not show", err)
	}
}

func digestWith(t *testing.T, c *Cache, dir string) (string, error) {
	t.Helper()
	tree := scan(t, dir, "k", c, Filter{})
	d, err := tree.Digest(t.Context(), Selection{Path: "/"})
	if err == nil {
		err = tree.Close()
	}
	return string(d), err
}

// TestCacheRacy changes a file within the clock's tick again and again: no change may go unseen.
func TestCacheRacy(t *testing.T) {
	dir := t.TempDir()
	c, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, body := range []string{"aa", "bb", "cc", "dd", "ee", "ff", "gg", "hh"} {
		f, err := os.OpenFile(filepath.Join(dir, "f"), os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte(body), 0); err != nil {
			t.Fatal(err)
		}
		f.Close()
		d, err := digestWith(t, c, dir)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[d]; ok {
			t.Errorf("%s has the digest of %s", body, other)
		}
		seen[d] = body
	}
	tree := scan(t, dir, "k", c, Filter{})
	if _, err := tree.Digest(t.Context(), Selection{Path: "/f"}); err != nil {
		t.Fatal(err)
	}
	if len(tree.cache.fresh) != 0 {
		t.Error("a file that was changed just now is remembered")
	}
}

// TestCacheDamaged reads caches with something wrong.
func TestCacheDamaged(t *testing.T) {
	dir, store := t.TempDir(), t.TempDir()
	plant(t, dir, "a=A", "b=B")
	age()
	c, err := Open(store)
	if err != nil {
		t.Fatal(err)
	}
	want, err := digestWith(t, c, dir)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(store)
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	at := filepath.Join(store, entries[0].Name())
	raw, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	flipped := append([]byte(nil), raw...)
	flipped[len(flipped)-20] ^= 1
	for name, bad := range map[string][]byte{"flipped": flipped, "cut": raw[:len(raw)-7], "empty": {}, "zeros": make([]byte, len(raw)), "other": []byte("something else")} {
		if err := os.WriteFile(at, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := digestWith(t, c, dir); got != want || err != nil {
			t.Errorf("%s: %s %v", name, got, err)
		}
	}
}

func FuzzCache(f *testing.F) {
	f.Add([]byte(cacheMagic))
	f.Add([]byte(cacheMagic + "\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		store := t.TempDir()
		c, err := Open(store)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(c.open("k").name, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		s := c.open("k")
		s.get(&Node{Ino: 1})
		s.put(&Node{Ino: 1, summed: true})
		if err := s.save(); err != nil {
			t.Fatal(err)
		}
		if n := (&Node{Ino: 1}); !c.open("k").get(n) {
			t.Error("what was saved is not found")
		}
	})
}
