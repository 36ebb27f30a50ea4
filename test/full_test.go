package test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kistdev/kist/internal/testbed"
)

// TestFullDiskIsNamed builds, copies, imports and commits onto a file system that is too small: each says so, and leaves no half
// made file to keep it full.
func TestFullDiskIsNamed(t *testing.T) {
	h := testbed.NewHost(t)
	data, dir := filepath.Join(h.Dir, "data"), t.TempDir()
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	h.Run("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", data)
	h.StartDaemon()
	h.Run("kist", "load", "-q", "-i", testbed.Recipes()["busybox"].MustArchive(t))
	for name, content := range map[string][]byte{
		"blob":     bytes.Repeat([]byte("0123456789abcdef"), 20<<16),
		"copy/F":   []byte("FROM kist.test/busybox\nCOPY blob /\n"),
		"run/F":    []byte("FROM kist.test/busybox\nRUN dd if=/dev/zero of=/big bs=1M count=30\n"),
		"copy/tmp": nil,
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h.Run("kist", "run", "-d", "--name", "box", "kist.test/busybox", "sleep", "1000")
	for _, tc := range []struct {
		command string
		want    []string
	}{
		{"kist build -q -f " + dir + "/copy/F " + dir, []string{"error: no space left on device [disk-full]"}},
		{"kist build -q -f " + dir + "/run/F " + dir, []string{"failed with exit code 1 [build-step-failed]", "cause: its command found the disk full: the file system of " + data}},
		{"kist cp " + dir + "/blob box:/blob", []string{"error: no space left on device [disk-full]", "the file system of " + data, "now that what was half written is gone"}},
		{"tar -C " + dir + " -c blob | kist import - imported", []string{"error: no space left on device [disk-full]", "now that what was half written is gone"}},
	} {
		out, err := h.Try("sh", "-c", "{ "+tc.command+"; } 2>&1")
		if err == nil {
			t.Errorf("%s: no error", tc.command)
		}
		for _, want := range tc.want {
			if !strings.Contains(out+errorText(err), want) {
				t.Errorf("%s: no %q in\n%s%v", tc.command, want, out, err)
			}
		}
	}
	if out, err := h.Try("kist", "exec", "box", "ls", "/blob"); err == nil {
		t.Errorf("half a file was left: %s", out)
	}
	// There is room again for what fits.
	h.Run("kist", "exec", "box", "dd", "if=/dev/zero", "of=/most", "bs=1M", "count=8")
	h.Run("kist", "rm", "-f", "box")
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
