package build

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// What lies in the destination is replaced, never followed.
func TestOutputTrees(t *testing.T) {
	src, dst, outside := t.TempDir(), filepath.Join(t.TempDir(), "out"), t.TempDir()
	must(t,
		os.MkdirAll(filepath.Join(src, "a/b"), 0o755), os.WriteFile(filepath.Join(src, "a/b/f"), []byte("new"), 0o640),
		os.Link(filepath.Join(src, "a/b/f"), filepath.Join(src, "a/same")), os.Symlink("/etc/passwd", filepath.Join(src, "link")),
		os.WriteFile(filepath.Join(src, "over"), []byte("over"), 0o755), unix.Mkfifo(filepath.Join(src, "pipe"), 0o600),
		os.Chtimes(filepath.Join(src, "a/b/f"), time.Unix(1, 0), time.Unix(1, 0)),
		os.MkdirAll(dst, 0o755), os.Symlink(outside, filepath.Join(dst, "a")), os.MkdirAll(filepath.Join(dst, "over/full"), 0o755),
		os.WriteFile(filepath.Join(outside, "victim"), []byte("old"), 0o600), os.Symlink(filepath.Join(outside, "victim"), filepath.Join(dst, "extra.json")),
		os.WriteFile(filepath.Join(dst, "mine"), []byte("mine"), 0o600),
	)
	root, err := sys.OpenRoot(src)
	must(t, err)
	defer root.Close()
	p := &Place{Outputs: map[int]string{0: dst}}
	must(t, p.OutputTrees(t.Context(), 0, []Tree{
		{Root: root, Files: map[string][]byte{"extra.json": []byte("{}")}}, {Prefix: "linux_arm64", Root: root},
	}))
	for name, want := range map[string]string{
		"a/b/f": "new", "a/same": "new", "over": "over", "mine": "mine", "extra.json": "{}", "linux_arm64/a/b/f": "new",
	} {
		if raw, err := os.ReadFile(filepath.Join(dst, name)); err != nil || string(raw) != want {
			t.Errorf("%s: %q, %v", name, raw, err)
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("written outside: %v, %v", entries, err)
	}
	if raw, err := os.ReadFile(filepath.Join(outside, "victim")); err != nil || string(raw) != "old" {
		t.Errorf("victim: %q, %v", raw, err)
	}
	st, err := os.Stat(filepath.Join(dst, "a/b/f"))
	must(t, err)
	if st.Mode() != 0o640 || !st.ModTime().Equal(time.Unix(1, 0)) || st.Sys().(*syscall.Stat_t).Nlink != 2 {
		t.Errorf("%v %v", st.Mode(), st.ModTime())
	}
	if target, err := os.Readlink(filepath.Join(dst, "link")); err != nil || target != "/etc/passwd" {
		t.Errorf("link: %q, %v", target, err)
	}
	if err := p.OutputTrees(t.Context(), 1, nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no destination: %v", err)
	}
}

// An output has its name only when it is complete.
func TestOutput(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image.tar")
	var out strings.Builder
	p := &Place{Outputs: map[int]string{0: path, 1: "-", 2: filepath.Dir(path)}, Stdout: &out}
	for _, whole := range []bool{false, true} {
		w, err := p.Output(t.Context(), 0, nil)
		must(t, err)
		_, err = io.WriteString(w, "data")
		must(t, err)
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it is there before it is complete: %v", err)
		}
		if whole {
			must(t, w.Close())
		} else {
			must(t, w.(*pendingFile).Abort())
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	w, err := p.Output(t.Context(), 1, nil)
	must(t, err)
	_, err = io.WriteString(w, "piped")
	must(t, err, w.Close())
	if out.String() != "piped" {
		t.Errorf("%q", out.String())
	}
	if _, err := p.Output(t.Context(), 2, nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a directory: %v", err)
	}
}

func TestPlaceHasOnlyWhatWasGiven(t *testing.T) {
	p := &Place{Dirs: map[string]string{"gone": filepath.Join(t.TempDir(), "x")}, Stores: map[string]string{"s": t.TempDir()}}
	_, err := p.Local(t.Context(), "context", LocalOptions{})
	_, err2 := p.Local(t.Context(), "gone", LocalOptions{})
	_, err3 := p.Secret(t.Context(), "x")
	_, err4 := p.SSH(t.Context(), "")
	_, err5 := p.Content(t.Context(), "s", "sha256:"+strings.Repeat("0", 64))
	for i, err := range []error{err, err2, err3, err4, err5} {
		if !errdefs.IsNotFound(err) {
			t.Errorf("%d: %v", i, err)
		}
	}
	for _, bad := range []string{"../../etc/passwd", "sha256:../x", "md5:00"} {
		if _, err := p.Content(t.Context(), "s", bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
