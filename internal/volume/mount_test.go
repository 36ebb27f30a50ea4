package volume

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func needsMounts(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("nothing can be mounted: not root")
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Skipf("nothing can be mounted: %v", err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
}

// there says whether the volume's file system is mounted.
func there(t *testing.T, s *Store, name string) bool {
	t.Helper()
	is, err := isMountPoint(s.data(name))
	if err != nil {
		t.Fatal(err)
	}
	return is
}

func TestMountWithFirstAndLastUser(t *testing.T) {
	needsMounts(t)
	dir := t.TempDir()
	s := open(t, dir)
	tmpfs := map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=64k,mode=700,noexec"}
	if _, fresh, err := s.Ensure(ctx, "ram", "", nil, tmpfs); err != nil || !fresh {
		t.Fatal(fresh, err)
	}
	var wg sync.WaitGroup
	for _, user := range []string{"a", "b", "c"} {
		if err := s.Use("ram", user); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if _, err := s.Mount(ctx, "ram", user); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := os.WriteFile(filepath.Join(s.data("ram"), "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.data("ram"), "large"), make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("beyond the size: %v", err)
	}
	for _, user := range []string{"a", "b", "nobody", "a"} {
		if err := s.Unmount(user); err != nil {
			t.Error(err)
		}
	}
	if !there(t, s, "ram") {
		t.Error("unmounted under its last user")
	}
	// The daemon dies: the next one knows of the user again, or ends what nobody uses.
	s = open(t, dir)
	if err := s.Use("ram", "c"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Mount(ctx, "ram", "c"); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(); err != nil || !there(t, s, "ram") {
		t.Errorf("after a restart: %v", err)
	}
	if err := s.Remove(ctx, "ram", true); !errors.Is(err, errdefs.ErrConflict) {
		t.Error(err)
	}
	s = open(t, dir)
	if err := s.Settle(); err != nil || there(t, s, "ram") {
		t.Errorf("nobody uses it: %v", err)
	}
	if n, err := s.Size("ram"); err != nil || n != 0 {
		t.Errorf("it occupies %d, %v", n, err)
	}
	if err := s.Remove(ctx, "ram", false); err != nil {
		t.Error(err)
	}
}

func TestBindIsLeftAlone(t *testing.T) {
	needsMounts(t)
	s := open(t, t.TempDir())
	dir := t.TempDir()
	file := filepath.Join(dir, "precious")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	bind := map[string]string{"type": "none", "device": dir, "o": "bind,ro"}
	if _, _, err := s.Ensure(ctx, "bound", "", nil, bind); err != nil {
		t.Fatal(err)
	}
	at, err := s.Mount(ctx, "bound", "gone without a word")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(at, "new"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("a read-only bind: %v", err)
	}
	if err := s.Remove(ctx, "bound", false); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("while something is copied: %v", err)
	}
	if err := s.Unmount("gone without a word"); err != nil {
		t.Fatal(err)
	}
	// Somebody mounts it behind the store's back, and it is removed.
	if err := unix.Mount(dir, s.data("bound"), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(ctx, "bound", false); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("what was bound is gone: %v", err)
	}
}

func TestForeignMountIsNotEmptied(t *testing.T) {
	needsMounts(t)
	s := open(t, t.TempDir())
	ensure(t, s, "plain", nil)
	dir, below := t.TempDir(), filepath.Join(s.data("plain"), "below")
	file := filepath.Join(dir, "precious")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Mkdir(below, 0o700), unix.Mount(dir, below, "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	err := s.Remove(ctx, "plain", false)
	if cerr := s.Close(); cerr != nil {
		t.Fatal(cerr)
	}
	gone, gerr := filepath.Glob(filepath.Join(s.dir, gonePrefix+"*", dataDir, "below"))
	if err != nil || gerr != nil || len(gone) != 1 {
		t.Fatal(err, gerr, gone)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("a file of the host is gone: %v", err)
	}
	if err := unix.Unmount(gone[0], 0); err != nil {
		t.Error(err)
	}
}

func TestMountFaults(t *testing.T) {
	needsMounts(t)
	s := open(t, t.TempDir())
	for name, c := range map[string]struct {
		options map[string]string
		says    []string
	}{
		"missing": {map[string]string{"type": "none", "device": "/no/such", "o": "bind"}, []string{"cannot mount volume missing", "no such file", "mkdir -p /no/such"}},
		"kind":    {map[string]string{"type": "nosuchfs", "device": "x"}, []string{"mount -t nosuchfs", "module for nosuchfs"}},
		"secret":  {map[string]string{"type": "nosuchfs", "device": "x", "o": "user=me,password=hush"}, []string{"password=***"}},
		"share":   {map[string]string{"type": "cifs", "device": "share"}, []string{"//SERVER/SHARE"}},
	} {
		if _, _, err := s.Ensure(ctx, name, "", nil, c.options); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_, err := s.Mount(ctx, name, "user")
		for _, want := range c.says {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("a password: %v", err)
		}
		if err := s.Remove(ctx, name, false); err != nil {
			t.Error(err)
		}
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, err := s.Ensure(ctx, "late", "", nil, map[string]string{"type": "tmpfs", "device": "tmpfs"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Mount(cancelled, "late", "user"); !errors.Is(err, context.Canceled) || there(t, s, "late") {
		t.Error(err)
	}
}

func TestSizeIsRefusedOrKept(t *testing.T) {
	if a, l := unsafe.Sizeof(attributes{}), unsafe.Sizeof(limits{}); a != 28 || l != 72 {
		t.Errorf("sizes of the kernel's structures: %d, %d", a, l)
	}
	needsMounts(t)
	plain := t.TempDir()
	if err := unix.Mount("none", plain, "tmpfs", 0, ""); err != nil { // which has no project quotas
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(plain, unix.MNT_DETACH) })
	s := open(t, plain)
	_, _, err := s.Ensure(ctx, "small", "", nil, map[string]string{"size": "1m"})
	if !errors.Is(err, errdefs.ErrNotImplemented) || !strings.Contains(err.Error(), "has no project quotas") {
		t.Error(err)
	}
	if list, err := os.ReadDir(plain); err != nil || len(list) != 0 {
		t.Errorf("left: %v, %v", list, err)
	}
	s = open(t, quotaDir(t))
	if _, _, err := s.Ensure(ctx, "small", "", nil, map[string]string{"size": "1m"}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.data("small"), "file")
	if err := os.WriteFile(file, make([]byte, 2<<20), 0o600); !errors.Is(err, unix.EDQUOT) && !errors.Is(err, unix.ENOSPC) {
		t.Errorf("beyond the size: %v", err)
	}
	if err := errors.Join(os.WriteFile(file, make([]byte, 1<<19), 0o600), s.Remove(ctx, "small", false)); err != nil {
		t.Error(err)
	}
}

// quotaDir is a directory on a file system with project quotas.
func quotaDir(t *testing.T) string {
	t.Helper()
	image, dir := filepath.Join(t.TempDir(), "ext4"), t.TempDir()
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 32<<20); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{
		{"mkfs.ext4", "-q", "-O", "project,quota", image}, {"mount", "-o", "loop,prjquota", image, dir},
	} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Skipf("no file system with project quotas: %s: %v: %s", c[0], err, out)
		}
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}
