package fileop

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// archiveOf is a tar with a few things in it.
func archiveOf(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range []*tar.Header{
		{Name: "in/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: past},
		{Name: "in/f", Typeflag: tar.TypeReg, Size: 1, Mode: 0o600, Uid: 3, ModTime: past},
		{Name: "../../out", Typeflag: tar.TypeReg, Size: 1, Mode: 0o600, ModTime: past},
		{Name: "keep", Typeflag: tar.TypeSymlink, Linkname: "/etc", ModTime: past},
		{Name: "keep/passwd", Typeflag: tar.TypeReg, Size: 1, Mode: 0o600, ModTime: past},
		{Name: "odd/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: past, PAXRecords: map[string]string{"SCHILY.xattr.trusted.overlay.redirect": "/etc"}},
	} {
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := tw.Write([]byte("T")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestUnpack(t *testing.T) {
	w := newWorld(t)
	raw := archiveOf(t)
	var z bytes.Buffer
	zw := gzip.NewWriter(&z)
	if _, err := zw.Write(raw); err != nil || zw.Close() != nil {
		t.Fatal(err)
	}
	add := func(src, dst string) *pb.FileActionCopy {
		c := dockerfile(src, dst)
		c.AttemptUnpackDockerCompatibility = true
		return c
	}
	l := local(t, file{name: "a.tar", body: string(raw)}, file{name: "a.tgz", body: z.String()}, file{name: "cut.tar", body: string(raw[:700])}, file{name: "text", body: "no archive"})
	base := w.layer(baseFiles...)
	onto := w.show(w.run(copyOp(add("/a.tar", "/app")), Source{Layers: []digest.Digest{base}}, Source{Local: l}).Outputs[0].Layers...)
	for _, line := range []string{
		"100600 3:0 app/in/f T (old)", "100600 0:0 app/out T (old)", "120777 0:0 app/keep -> /etc (old)", "100600 0:0 etc/passwd T (old)", "100644 0:0 app/a.txt old (old)",
	} {
		if !strings.Contains(onto, line) {
			t.Errorf("%s is missing in\n%s", line, onto)
		}
	}
	for _, src := range []string{"/a.tar", "/a.tgz"} {
		fresh := w.show(w.run(copyOp(add(src, "/new/dir")), Source{}, Source{Local: l}).Outputs[0].Layers...)
		if !strings.Contains(fresh, "100600 3:0 new/dir/in/f T (old)") || strings.Contains(fresh, "a.t") {
			t.Errorf("%s: %s", src, fresh)
		}
	}
	if got := w.show(w.run(copyOp(add("/text", "/new/")), Source{}, Source{Local: l}).Outputs[0].Layers...); !strings.Contains(got, "new/text no archive") {
		t.Error(got)
	}
	if _, err := w.ops.Run(t.Context(), copyOp(add("/cut.tar", "/new/")), []Source{{}, {Local: l}}, w.hold); !errdefs.IsInvalidArgument(err) {
		t.Error("a tar that is cut off:", err)
	}
	owned := add("/a.tar", "/o")
	owned.Owner = &pb.ChownOpt{User: &pb.UserOpt{User: &pb.UserOpt_ByID{ByID: 42}}}
	if got := w.show(w.run(copyOp(owned), Source{}, Source{Local: l}).Outputs[0].Layers...); !strings.Contains(got, "100600 42:42 o/in/f") || !strings.Contains(got, "040755 42:42 o\n") {
		t.Error(got)
	}
}

func TestUnpackXz(t *testing.T) {
	if _, err := exec.LookPath("xz"); err != nil {
		t.Skip("needs the program xz")
	}
	w := newWorld(t)
	l := local(t, file{name: "a.tar", body: string(archiveOf(t))})
	if out, err := exec.CommandContext(t.Context(), "xz", filepath.Join(l.Dir, "a.tar")).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	c := dockerfile("/a.tar.xz", "/x/")
	c.AttemptUnpackDockerCompatibility = true
	if got := w.show(w.run(copyOp(c), Source{}, Source{Local: l}).Outputs[0].Layers...); !strings.Contains(got, "x/in/f T") {
		t.Error(got)
	}
}
