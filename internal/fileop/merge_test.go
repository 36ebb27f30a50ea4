package fileop

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/layer"
)

func TestMergeAndDiff(t *testing.T) {
	w := newWorld(t)
	a := w.layer(file{name: "d/"}, file{name: "d/a", body: "A"}, file{name: "both", body: "a"}, file{name: "gone", body: "g"}, file{name: "kind/"}, file{name: "kind/x"})
	b := w.layer(file{name: "d/"}, file{name: "d/b", body: "B"}, file{name: "both", body: "b"})
	merged, err := w.ops.Merge(t.Context(), []Source{{Layers: []digest.Digest{a}}, {}, {Layers: []digest.Digest{b, layer.Empty}}, {Layers: []digest.Digest{b}}}, w.hold)
	if err != nil || !slices.Equal(merged.Outputs[0].Layers, []digest.Digest{a, layer.Empty, b}) {
		t.Fatal(merged, err)
	}
	if got := w.show(merged.Outputs[0].Layers...); !strings.Contains(got, "d/a A") || !strings.Contains(got, "d/b B") || !strings.Contains(got, "both b") {
		t.Error(got)
	}
	// A stack and what was put on it.
	suffix, err := w.ops.Diff(t.Context(), Source{Layers: []digest.Digest{a}}, Source{Layers: []digest.Digest{a, b}}, w.hold)
	if err != nil || !slices.Equal(suffix.Outputs[0].Layers, []digest.Digest{b}) {
		t.Error(suffix, err)
	}
	same, err := w.ops.Diff(t.Context(), Source{Layers: []digest.Digest{a}}, Source{Layers: []digest.Digest{a}}, w.hold)
	if err != nil || len(same.Outputs[0].Layers) != 0 {
		t.Error(same, err)
	}
	// Two trees that have nothing to do with each other.
	c := w.layer(file{name: "d/", mode: 0o700}, file{name: "d/a", body: "A"}, file{name: "both", body: "c"}, file{name: "kind", body: "K"}, file{name: "new/"}, file{name: "new/n", body: "N"})
	diff, err := w.ops.Diff(t.Context(), Source{Layers: []digest.Digest{a}}, Source{Layers: []digest.Digest{c}}, w.hold)
	if err != nil || len(diff.Outputs[0].Layers) != 1 {
		t.Fatal(diff, err)
	}
	if got, want := w.show(append([]digest.Digest{a}, diff.Outputs[0].Layers...)...), w.show(c); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := w.show(diff.Outputs[0].Layers...); strings.Contains(got, "d/a") {
		t.Errorf("what both have is in the difference:\n%s", got)
	}
	// Removals go along when the difference is merged onto something else.
	other := w.layer(file{name: "gone", body: "other"}, file{name: "stays", body: "s"})
	onto, err := w.ops.Merge(t.Context(), []Source{{Layers: []digest.Digest{other}}, {Layers: diff.Outputs[0].Layers}}, w.hold)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.show(onto.Outputs[0].Layers...); strings.Contains(got, "gone") || !strings.Contains(got, "stays") {
		t.Error(got)
	}
}
