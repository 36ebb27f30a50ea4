package volume

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/testbed"
)

// archived is a tar with one file, and an entry for the root.
func archived(t *testing.T) []byte {
	t.Helper()
	return testbed.Tar(t, tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o1777}, tar.Header{Name: "dir/file", Mode: 0o640, Linkname: "text"})
}

func TestTransfer(t *testing.T) {
	s := open(t, t.TempDir())
	if err := s.Import(ctx, "one", bytes.NewReader(archived(t)), false); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(s.data("one")); err != nil || info.Mode().Perm() != 0o777 || info.Mode()&os.ModeSticky == 0 {
		t.Errorf("the directory: %v, %v", info, err)
	}
	var out bytes.Buffer
	if err := s.Export(ctx, "one", func() (io.Writer, error) { return &out, nil }); err != nil {
		t.Fatal(err)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err := z.Write(out.Bytes())
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	if err := s.Import(ctx, "two", &zipped, false); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(s.data("two"), "dir", "file")); err != nil || string(b) != "text" {
		t.Errorf("%q, %v", b, err)
	}
	if err := s.Import(ctx, "two", bytes.NewReader(archived(t)), false); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("into a volume with files: %v", err)
	}
	if err := s.Import(ctx, "two", bytes.NewReader(archived(t)), true); err != nil {
		t.Error(err)
	}
	if err := s.Export(ctx, "none", nil); !errors.Is(err, errdefs.ErrNotFound) {
		t.Error(err)
	}
}

func TestImportOfRubbish(t *testing.T) {
	s := open(t, t.TempDir())
	good := archived(t)
	for name, content := range map[string]string{
		"text": "this is no archive", "cut": string(good[:1024]), "flipped": strings.Replace(string(good), "file", "fIle", 1), "nothing": "",
	} {
		if err := s.Import(ctx, "broken", strings.NewReader(content), false); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.Inspect(ctx, "broken"); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("%s: left: %v", name, err)
		}
	}
	ensure(t, s, "mine", nil)
	if err := s.Import(ctx, "mine", strings.NewReader(string(good[:1026])), false); err == nil {
		t.Error("a cut archive")
	}
	if empty, err := isEmpty(s.data("mine")); err != nil || !empty {
		t.Errorf("something of it stayed: %v", err)
	}
	if err := s.Import(ctx, "../x", bytes.NewReader(good), false); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Error(err)
	}
}
