package sys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hostileTree makes a tree with links that lead out, beside a file they shall not reach.
func hostileTree(t *testing.T) *Root {
	t.Helper()
	top := t.TempDir()
	dir := filepath.Join(top, "root")
	for _, err := range []error{
		os.WriteFile(filepath.Join(top, "secret"), []byte("outside"), 0o600),
		os.MkdirAll(filepath.Join(dir, "a/b"), 0o755), os.WriteFile(filepath.Join(dir, "a/b/f"), []byte("inside"), 0o644),
		os.WriteFile(filepath.Join(dir, "secret"), []byte("inside"), 0o644),
		os.Symlink("/a/b", filepath.Join(dir, "abs")), os.Symlink("../../../../a", filepath.Join(dir, "up")),
		os.Symlink("../secret", filepath.Join(dir, "out")), os.Symlink("/proc/self/root"+top, filepath.Join(dir, "magic")),
		os.Symlink("loop", filepath.Join(dir, "loop")), os.Symlink("not/yet", filepath.Join(dir, "dangling")),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func TestRootReadFile(t *testing.T) {
	root := hostileTree(t)
	for name, want := range map[string]string{
		"a/b/f": "inside", "/a/b/f": "inside", "abs/f": "inside", "up/b/f": "inside", "../../../secret": "inside", "out": "inside",
		"a/../out": "inside", "magic/secret": "", "loop": "", "nothing": "", "fifo": "", "a": "", "dangling": "", "a/b/f/x": "",
		"zero\x00byte": "",
	} {
		got, err := root.ReadFile(name, 100)
		if string(got) != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v", name, got, err)
		}
	}
	if _, err := root.ReadFile("secret", 3); !errors.Is(err, unix.EFBIG) {
		t.Error("a file larger than the limit:", err)
	}
}

func TestRootResolve(t *testing.T) {
	root := hostileTree(t)
	for name, want := range map[string]string{"abs/f": "/a/b/f", "up": "/a", "/": "/", "../..": "/", "out": "/secret", "a/./b/..": "/a"} {
		if got, err := root.Resolve(name); got != want || err != nil {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	if _, err := root.Resolve("nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestRootMkdirAll(t *testing.T) {
	root := hostileTree(t)
	for name, want := range map[string]string{
		"x/y/z": "/x/y/z", "abs/new": "/a/b/new", "up/../q": "/q", "dangling/deep": "/not/yet/deep", "../w": "/w", "": "/",
	} {
		f, err := root.MkdirAll(name, 0o755)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		f.Close()
		if got, err := root.Resolve(name); err != nil || got != want {
			t.Errorf("%s: made %q, want %q, %v", name, got, want, err)
		}
	}
	for name, want := range map[string]error{"secret/x": unix.ENOTDIR, "loop/x": unix.ELOOP} {
		if _, err := root.MkdirAll(name, 0o755); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	outside, err := os.ReadDir(filepath.Dir(root.File().Name()))
	if err != nil || len(outside) != 2 {
		t.Error("made outside:", outside, err)
	}
}

func TestRootLinks(t *testing.T) {
	root := hostileTree(t)
	if target, err := root.Readlink("up"); target != "../../../../a" || err != nil {
		t.Error(target, err)
	}
	if _, err := root.Readlink("a"); err == nil {
		t.Error("a directory was read as a link")
	}
	if st, err := root.Lstat("abs"); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		t.Error(st.Mode, err)
	}
	if st, err := root.Stat("abs"); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		t.Error(st.Mode, err)
	}
}

func TestSplit(t *testing.T) {
	for name, want := range map[string][2]string{
		"/a/b": {"/a/", "b"}, "a": {"/", "a"}, "a/b/": {"/a/", "b"}, "/": {"/", "."}, "": {"/", "."}, "a/..": {"/a/..", "."}, "a/.": {"/a/.", "."},
	} {
		if dir, base := split(name); dir != want[0] || base != want[1] {
			t.Errorf("%q: got %q, %q", name, dir, base)
		}
	}
}

// TestRace swaps a directory for a link that leads out while it is looked up.
func TestRace(t *testing.T) {
	root := hostileTree(t)
	dir := root.File().Name()
	os.Symlink("..", filepath.Join(dir, "evil"))
	os.Mkdir(filepath.Join(dir, "good"), 0o755)
	os.WriteFile(filepath.Join(dir, "good/secret"), []byte("inside"), 0o644)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, dir+"/evil", unix.AT_FDCWD, dir+"/good", unix.RENAME_EXCHANGE)
			}
		}
	}()
	for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); {
		for _, name := range []string{"good/secret", "good/../secret"} {
			if got, err := root.ReadFile(name, 100); err == nil && string(got) != "inside" {
				t.Fatal("escaped")
			}
		}
	}
	close(stop)
	<-done
}

// TestRemoveLargeAt removes a wide tree by many hands.
func TestRemoveLargeAt(t *testing.T) {
	top := t.TempDir()
	for i := range 60 {
		sub := fmt.Sprintf("%s/tree/%d/sub", top, i)
		if err := os.MkdirAll(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		for k := range 60 {
			if err := os.WriteFile(fmt.Sprintf("%s/%d", sub, k), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir, err := unix.Open(top, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	if err := RemoveLargeAt(t.Context(), dir, "tree", 8); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(top); err != nil || len(left) != 0 {
		t.Error(left, err)
	}
}

// TestRemoveAllAt removes a tree that is deeper than paths can be long, and leaves what its links lead to.
func TestRemoveAllAt(t *testing.T) {
	t.Run("alone", func(t *testing.T) { testRemoveAllAt(t, RemoveAllAt) })
	t.Run("with help", func(t *testing.T) {
		testRemoveAllAt(t, func(dir int, name string) error { return RemoveLargeAt(t.Context(), dir, name, 8) })
	})
}

func testRemoveAllAt(t *testing.T, remove func(int, string) error) {
	top := t.TempDir()
	os.WriteFile(top+"/kept", nil, 0o600)
	os.Mkdir(top+"/tree", 0o755)
	fd, err := unix.Open(top+"/tree", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("d", 50)
	for i := range 1000 {
		for _, err := range []error{
			unix.Mkdirat(fd, name, 0o700), unix.Mkdirat(fd, fmt.Sprint(i), 0o700), unix.Symlinkat(top+"/kept", fd, "link"),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		next, err := unix.Openat(fd, name, unix.O_PATH|unix.O_DIRECTORY, 0)
		unix.Close(fd)
		if err != nil {
			t.Fatal(err)
		}
		fd = next
	}
	unix.Close(fd)
	dir, err := unix.Open(top, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	for range 2 { // what is not there is no error
		if err := remove(dir, "tree"); err != nil {
			t.Fatal(err)
		}
	}
	left, err := os.ReadDir(top)
	if err != nil || len(left) != 1 {
		t.Error(left, err)
	}
}
