package fileop

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// FuzzPaths runs actions with any paths on trees full of links: nothing beside them may change, and none of it may be read.
func FuzzPaths(f *testing.F) {
	f.Add("/up", "/escape/x", "*.md")
	f.Add("/*/../..", "/loop/../../x", "!**")
	f.Add("../../etc/passwd", "//./dangling/..", "[")
	f.Add("/d*/[a-", "\xff\x00", "**/**/")
	w := newWorld(f)
	base := w.layer(baseFiles...)
	outside := filepath.Join(f.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("do not touch"), 0o600); err != nil {
		f.Fatal(err)
	}
	l := local(f, append(contextFiles, file{name: "out -> " + outside}, file{name: "dir/out -> ../../../../../../.." + outside})...)
	bottom := w.layer(append(baseFiles, file{name: "out -> " + outside})...)
	f.Fuzz(func(t *testing.T, src, dst, pattern string) {
		w := &world{t, w.layers, w.ops, w.hold}
		c := dockerfile(src, dst)
		c.ExcludePatterns = []string{pattern}
		c.AlwaysReplaceExistingDestPaths = len(src)%2 == 0
		for _, op := range []*pb.FileOp{copyOp(c), chain(1, mkdir(dst, 0o755, true), mkfile(src, "x"), rm(dst, true, true)), chain(1, symlink(src, dst))} {
			for _, in := range []digest.Digest{base, bottom} {
				res, err := w.ops.Run(t.Context(), op, []Source{{Layers: []digest.Digest{in}}, {Local: l}}, w.hold)
				if err == nil && strings.Contains(w.show(res.Outputs[0].Layers...), "do not touch") {
					t.Errorf("%q to %q reads what is outside", src, dst)
				}
			}
		}
		if raw, err := os.ReadFile(outside); err != nil || string(raw) != "do not touch" {
			t.Errorf("%q to %q wrote outside: %q %v", src, dst, raw, err)
		}
	})
}
