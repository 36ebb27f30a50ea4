package fileop

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/treesum"
)

// settle makes files older than the tick of the file system's clock.
func settle() { time.Sleep(100 * time.Millisecond) }

// TestCopyNoticesChanges changes something between the reading of a directory and the copying. What was copied must not be taken for
// what was read.
func TestCopyNoticesChanges(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, dir string){
		"nothing": func(*testing.T, string) {},
		"content": func(t *testing.T, dir string) { write(t, dir+"/d/a", "2") },
		"another file, all times put back": func(t *testing.T, dir string) {
			write(t, dir+"/new", "2")
			plantTimes(t, dir+"/new", dir+"/d/a")
			must(t, os.Rename(dir+"/new", dir+"/d/a"))
		},
		"a store into a mapped file": func(t *testing.T, dir string) {
			m := mapped(t, dir+"/d/mapped")
			m[0]++
		},
		"mode":      func(t *testing.T, dir string) { must(t, os.Chmod(dir+"/d/a", 0o600)) },
		"link":      func(t *testing.T, dir string) { relink(t, dir+"/d/l", "b") },
		"name":      func(t *testing.T, dir string) { must(t, os.Remove(dir+"/d/b2"), os.Link(dir+"/d/a", dir+"/d/b2")) },
		"gone":      func(t *testing.T, dir string) { must(t, os.Remove(dir+"/d/a")) },
		"directory": func(t *testing.T, dir string) { must(t, os.Chmod(dir+"/d", 0o700)) },
		"attribute": func(t *testing.T, dir string) { must(t, unix.Setxattr(dir+"/d", "user.x", []byte("2"), 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			l := local(t, file{name: "d/"}, file{name: "d/a", body: "1"}, file{name: "d/b", body: "1"}, file{name: "d/mapped", body: "1"}, file{name: "d/l -> a"})
			must(t, os.Link(l.Dir+"/d/b", l.Dir+"/d/b2"))
			mapped(t, l.Dir+"/d/mapped")[0]++
			settle()
			src := Source{Local: l}
			if _, err := w.ops.SelectDigest(t.Context(), treesum.Selection{Path: "/"}, src); err != nil {
				t.Fatal(err)
			}
			change(t, l.Dir)
			res := w.run(copyOp(dockerfile("/", "/")), Source{}, src)
			if res.Unstable != (name != "nothing") {
				t.Errorf("unstable is %v", res.Unstable)
			}
		})
	}
}

// TestUnchanged asks whether a directory was left alone since its digest was asked for.
func TestUnchanged(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, dir string){
		"nothing":               func(*testing.T, string) {},
		"what is not looked at": func(t *testing.T, dir string) { write(t, dir+"/other", "2") },
		"there and back again":  func(t *testing.T, dir string) { write(t, dir+"/d/a", "2"); write(t, dir+"/d/a", "1") },
		"a new file":            func(t *testing.T, dir string) { write(t, dir+"/d/new", "") },
		"a file less":           func(t *testing.T, dir string) { must(t, os.Remove(dir+"/d/a")) },
		"link":                  func(t *testing.T, dir string) { relink(t, dir+"/d/l", "b") },
		"all of it gone":        func(t *testing.T, dir string) { must(t, os.RemoveAll(dir+"/d")) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			l := local(t, file{name: "d/"}, file{name: "d/a", body: "1"}, file{name: "d/l -> a"}, file{name: "other", body: "1"})
			settle()
			src, sel := Source{Local: l}, treesum.Selection{Path: "/d", Root: true}
			if _, err := w.ops.SelectDigest(t.Context(), sel, src); err != nil {
				t.Fatal(err)
			}
			change(t, l.Dir)
			same, err := w.ops.Unchanged(t.Context(), sel, src)
			if err != nil || same != (name == "nothing" || name == "what is not looked at") {
				t.Errorf("%v %v", same, err)
			}
		})
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func write(t *testing.T, at, body string) {
	t.Helper()
	must(t, os.WriteFile(at, []byte(body), 0o644))
}

// plantTimes gives a file another one's times.
func plantTimes(t *testing.T, at, as string) {
	t.Helper()
	fi, err := os.Stat(as)
	must(t, err, os.Chtimes(at, fi.ModTime(), fi.ModTime()))
}

func relink(t *testing.T, at, target string) {
	t.Helper()
	must(t, os.Remove(at), os.Symlink(target, at))
}

// mapped maps a file of one byte for writing.
func mapped(t *testing.T, at string) []byte {
	t.Helper()
	fd, err := unix.Open(filepath.Clean(at), unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	m, err := unix.Mmap(fd, 0, 1, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	t.Cleanup(func() { _ = unix.Munmap(m) })
	return m
}
