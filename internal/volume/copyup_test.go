package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// image makes a root filesystem with /data in it.
func image(t *testing.T) (*sys.Root, string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("owners cannot be set: not root")
	}
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	err := errors.Join(
		os.MkdirAll(filepath.Join(data, "sub"), 0o750),
		os.WriteFile(filepath.Join(data, "sub", "file"), []byte("content"), 0o640),
		os.Chown(filepath.Join(data, "sub", "file"), 11, 12),
		os.Symlink("/etc/passwd", filepath.Join(data, "link")),
		os.WriteFile(filepath.Join(data, ".wh.looks-like-a-whiteout"), nil, 0o600),
		unix.Mknod(filepath.Join(data, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		unix.Lsetxattr(filepath.Join(data, "sub", "file"), "trusted.mark", []byte("kept"), 0),
		os.Chown(data, 33, 34),
		os.Chmod(data, 0o770|os.ModeSetgid),
		os.Symlink("data", filepath.Join(dir, "alias")),
		os.Symlink("/../../../../etc", filepath.Join(dir, "out")),
	)
	if err != nil {
		t.Fatal(err)
	}
	root, err := sys.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root, dir
}

func TestCopyUp(t *testing.T) {
	from, _ := image(t)
	s := open(t, t.TempDir())
	for _, path := range []string{"/data", "/alias"} {
		name := "vol" + strings.ReplaceAll(path, "/", "-")
		ensure(t, s, name, nil)
		if err := s.CopyUp(ctx, name, "c1", from, path); err != nil {
			t.Fatal(err)
		}
		dir := s.data(name)
		var st unix.Stat_t
		if err := unix.Lstat(dir, &st); err != nil || st.Uid != 33 || st.Gid != 34 || st.Mode&0o7777 != 0o2770 {
			t.Errorf("the directory: %d:%d %o, %v", st.Uid, st.Gid, st.Mode, err)
		}
		file := filepath.Join(dir, "sub", "file")
		if err := unix.Lstat(file, &st); err != nil || st.Uid != 11 || st.Gid != 12 || st.Mode&0o7777 != 0o640 {
			t.Errorf("a file: %d:%d %o, %v", st.Uid, st.Gid, st.Mode, err)
		}
		if b, err := os.ReadFile(file); err != nil || string(b) != "content" {
			t.Errorf("content %q, %v", b, err)
		}
		mark := make([]byte, 10)
		if n, err := unix.Lgetxattr(file, "trusted.mark", mark); err != nil || string(mark[:n]) != "kept" {
			t.Errorf("attribute %q, %v", mark, err)
		}
		if to, err := os.Readlink(filepath.Join(dir, "link")); err != nil || to != "/etc/passwd" {
			t.Errorf("link to %q, %v", to, err)
		}
		if err := unix.Lstat(filepath.Join(dir, "null"), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) {
			t.Errorf("device %o %x, %v", st.Mode, st.Rdev, err)
		}
		if _, err := os.Lstat(filepath.Join(dir, ".wh.looks-like-a-whiteout")); err != nil {
			t.Error(err)
		}
		if _, fresh, err := s.Ensure(ctx, name, "", nil, nil); err != nil || fresh {
			t.Errorf("after the copy: fresh %v, %v", fresh, err)
		}
	}
}

func TestCopyUpIsAllOrNothing(t *testing.T) {
	from, dir := image(t)
	s := open(t, t.TempDir())
	ensure(t, s, "vol", nil)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.CopyUp(cancelled, "vol", "c1", from, "/data"); err == nil {
		t.Error("a cancelled copy succeeds")
	}
	for path, class := range map[string]error{"/data/sub/file": errdefs.ErrInvalidArgument, "/nothing": nil, "/data/sub/file/below": nil, "/out": nil} {
		if err := s.CopyUp(ctx, "vol", "c1", from, path); !errors.Is(err, class) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if list, err := os.ReadDir(s.path("vol")); err != nil || len(list) != 2 {
		t.Errorf("left beside the volume: %v, %v", list, err)
	}
	if _, fresh, err := s.Ensure(ctx, "vol", "", nil, nil); err != nil || !fresh {
		t.Errorf("fresh %v, %v", fresh, err)
	}
	// A volume that somebody filled meanwhile keeps what it has.
	if err := os.WriteFile(filepath.Join(s.data("vol"), "theirs"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.CopyUp(ctx, "vol", "c1", from, "/data"); err != nil {
		t.Fatal(err)
	}
	if list, err := os.ReadDir(s.data("vol")); err != nil || len(list) != 1 {
		t.Errorf("in the volume: %v, %v", list, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "sub", "file")); err != nil {
		t.Errorf("the image lost a file: %v", err)
	}
	if err := s.CopyUp(ctx, "nope", "c1", from, "/data"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Error(err)
	}
}
