package volume

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/testbed"
)

func oneFile(t *testing.T, name, text string) *bytes.Buffer {
	t.Helper()
	return bytes.NewBuffer(testbed.Tar(t, tar.Header{Name: name, Mode: 0o600, Linkname: text}))
}

func TestPlace(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	read := func() string {
		b, _ := os.ReadFile(filepath.Join(dir, "data", "_data", "file"))
		return string(b)
	}
	p := Placing{Name: "data", Labels: map[string]string{"k": "v"}}
	if err := s.Place(ctx, p, oneFile(t, "file", "one")); err != nil || read() != "one" {
		t.Fatal(err, read())
	}
	if v, err := s.Inspect(ctx, "data"); err != nil || v.Labels["k"] != "v" {
		t.Errorf("%v, %v", v, err)
	}
	refused := func(code string) {
		t.Helper()
		err := s.Place(ctx, p, oneFile(t, "file", "two"))
		if f, ok := fault.As(err); !ok || f.Code != code || !errdefs.IsConflict(err) || read() != "one" {
			t.Errorf("%v, %q; want %s", err, read(), code)
		}
	}
	refused("volume-name-taken")
	p.Replace = true
	if err := s.Use("data", "c1"); err != nil {
		t.Fatal(err)
	}
	refused("volume-in-use")
	s.Release("c1")
	// A tar that breaks leaves what was there.
	whole := oneFile(t, "file", strings.Repeat("x", 5000)).Bytes()
	if err := s.Place(ctx, p, bytes.NewReader(whole[:2000])); err == nil || read() != "one" {
		t.Errorf("%v, %q", err, read())
	}
	if err := s.Place(ctx, p, oneFile(t, "file", "two")); err != nil || read() != "two" {
		t.Error(err, read())
	}
	for _, bad := range []Placing{{Name: "../x"}, {Name: "ok", Options: map[string]string{"colour": "red"}}} {
		if err := s.MayPlace(bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	s.Close()
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("left: %v, %v", list, err)
	}
	if v, err := open(t, dir).Inspect(ctx, "data"); err != nil || v.Labels["k"] != "v" {
		t.Errorf("after a restart: %v, %v", v, err)
	}
}
