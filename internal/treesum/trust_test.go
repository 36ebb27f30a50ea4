package treesum

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSure(t *testing.T) {
	now := time.Now().UnixNano()
	whole := now / 1e9 * 1e9
	for name, c := range map[string]struct {
		trust        trust
		ctime, began int64
		want         bool
	}{
		"fine, old":                       {told, now - 1_000_000_001, now, true},
		"fine, new":                       {told, now - 1_000_001, now, false},
		"in the future":                   {told, now + 1_000_000_001, now, false},
		"the clock was put back":          {told, now, now - 3_600_000_000_001, false},
		"whole seconds, recent":           {told, whole - 1e9, whole, false},
		"whole seconds, old":              {told, whole - 5e9, whole, true},
		"somebody writes":                 {untold, now - 1_000_000_000_001, now, false},
		"another's clock, recent":         {aged, now - 30_000_000_001, now, false},
		"another's clock, old":            {aged, now - 90_000_000_001, now, true},
		"another's clock, but only mtime": {aged, whole - 90e9, whole, false},
	} {
		for _, n := range []*Node{{Mtime: c.ctime, Ctime: c.ctime}, {Mtime: 1, Ctime: c.ctime}} {
			if n.trust = c.trust; n.sure(c.began) != c.want {
				t.Errorf("%s: %v", name, !c.want)
			}
		}
	}
}

// mapped is a file that a program has mapped for writing, and closed, as linkers and databases do.
func mapped(t *testing.T, at string) []byte {
	t.Helper()
	fd, err := unix.Open(at, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	m, err := unix.Mmap(fd, 0, 4, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(m) })
	return m
}

func ctimeOf(t *testing.T, at string) unix.Timespec {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(at, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ctim
}

// TestMappedStores changes a mapped file again after it was scanned. The kernel sets its times at the first store only.
func TestMappedStores(t *testing.T) {
	memory, err := os.MkdirTemp("/dev/shm", "kist-treesum-")
	if err != nil {
		t.Skip("skip: no file system in memory")
	}
	t.Cleanup(func() { _ = os.RemoveAll(memory) })
	for name, dir := range map[string]string{"disk": t.TempDir(), "memory": memory} {
		t.Run(name, func(t *testing.T) {
			at := filepath.Join(dir, "f")
			if err := os.WriteFile(at, []byte("aaaa"), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := Open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			m := mapped(t, at)
			m[0] = m[1] + 1
			age()
			first, err := digestWith(t, c, dir)
			if err != nil {
				t.Fatal(err)
			}
			before := ctimeOf(t, at)
			m[0]++
			if ctimeOf(t, at) != before {
				t.Log("this kernel tells of each store")
			}
			second, err := digestWith(t, c, dir)
			if err != nil || first == second {
				t.Error("a store into a mapped file does not show", err)
			}
		})
	}
}

// TestStoresAfterTheScan has a file in memory mapped by somebody who comes later: reading a page there is enough to store into it
// without a sign.
func TestStoresAfterTheScan(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "kist-treesum-")
	if err != nil {
		t.Skip("skip: no file system in memory")
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	at := filepath.Join(dir, "f")
	if err := os.WriteFile(at, []byte("aaaa"), 0o600); err != nil {
		t.Fatal(err)
	}
	age()
	c, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	first, err := digestWith(t, c, dir)
	if err != nil {
		t.Fatal(err)
	}
	m := mapped(t, at)
	m[0] = m[1] + 1
	if err := unix.Munmap(m); err != nil {
		t.Fatal(err)
	}
	second, err := digestWith(t, c, dir)
	if err != nil || first == second {
		t.Error("a store into a mapped file does not show", err)
	}
}

// TestOpenForWriting asks what is remembered of a file that somebody is writing: its times may be those of a write that has begun,
// and whose data are not there yet.
func TestOpenForWriting(t *testing.T) {
	dir := diskDir(t)
	at := filepath.Join(dir, "f")
	w, err := os.Create(at)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	age()
	remembered := func() int {
		c, err := Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		tree := scan(t, dir, "k", c, Filter{})
		if _, err := tree.Digest(t.Context(), Selection{Path: "/f"}); err != nil {
			t.Fatal(err)
		}
		return len(tree.cache.fresh)
	}
	if n := remembered(); n != 0 {
		t.Error("a file that is open for writing is remembered")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if n := remembered(); n != 1 {
		t.Error("a file that nobody writes is not remembered")
	}
	r, err := os.OpenFile(at, os.O_WRONLY|unix.O_NONBLOCK, 0) // Nor is it kept from being written.
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
}

// TestForeignFileSystem asks what is remembered of files whose times are not the kernel's.
func TestForeignFileSystem(t *testing.T) {
	for dir, want := range map[string]class{"/proc": foreign, "/sys": foreign, t.TempDir(): disk} {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		r := &reader{classes: map[uint64]class{}}
		if got := r.class(fd, 1); got != want && (want != disk || got != memory) {
			t.Errorf("%s is %d", dir, got)
		}
		unix.Close(fd)
	}
	if foreign.trustOf(-1) != untold || foreign.bare() != untold || memory.trustOf(-1) != untold || memory.bare() != told || distant.trustOf(-1) != aged {
		t.Error("a file system is trusted that is not to be")
	}
}

// diskDir is a directory of files that can be remembered, as those of a file system in memory cannot.
func diskDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if classes[st.Type] != disk {
		t.Skip("skip: TMPDIR is on a file system whose files are read each time")
	}
	return dir
}
