package layer

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/go-digest"
)

// TestShares finds what later layers overwrite, remove and hide.
func TestShares(t *testing.T) {
	s := open(t)
	body := func(kb int) string { return strings.Repeat("x", kb<<10) }
	low := unpack(t, s,
		file{name: "usr/", kind: '5'}, file{name: "usr/lib/", kind: '5'}, file{name: "usr/lib/kept", body: body(8)},
		file{name: "usr/lib/changed", body: body(16)}, file{name: "usr/lib/gone", body: body(32)},
		file{name: "cache/", kind: '5'}, file{name: "cache/a", body: body(40)}, file{name: "cache/sub/", kind: '5'}, file{name: "cache/sub/b", body: body(60)},
		file{name: "opaque/", kind: '5'}, file{name: "opaque/old", body: body(20)},
		file{name: "replaced/", kind: '5'}, file{name: "replaced/file", body: body(12)},
		file{name: "one", body: body(4)}, file{name: "two", kind: '1', link: "one"}, file{name: "also", kind: '1', link: "one"},
	)
	middle := unpack(t, s,
		file{name: "usr/lib/changed", body: body(4)}, file{name: "usr/lib/.wh.gone"}, file{name: ".wh.cache"},
		file{name: "opaque/", kind: '5'}, file{name: "opaque/.wh..wh..opq"}, file{name: "opaque/new", body: body(8)},
		file{name: "replaced", body: body(4)},
	)
	top := unpack(t, s, file{name: "opaque/.wh.new"}, file{name: "two", body: body(4)}, file{name: "also", body: body(4)})
	h := s.Hold()
	defer h.Release()
	h.Take(low, middle, top)
	got, err := s.Shares(t.Context(), []digest.Digest{low, middle, top})
	if err != nil {
		t.Fatal(err)
	}
	want := []Share{
		{
			// also, one and two are the same file, of which one name is left: nothing of it is wasted.
			Wasted: (16 + 32 + 40 + 60 + 20 + 12) << 10, Files: 10,
			Waste: []Amount{
				{"/cache", 100 << 10}, {"/usr/lib/gone", 32 << 10}, {"/opaque", 20 << 10}, {"/usr/lib/changed", 16 << 10}, {"/replaced", 12 << 10},
			},
		},
		{Wasted: 8 << 10, Files: 3, Removed: 2, Waste: []Amount{{"/opaque/new", 8 << 10}}},
		{Files: 2, Removed: 1},
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(Share{}, "Size", "Added")); d != "" {
		t.Error(d)
	}
	for i, g := range got {
		if size, err := s.Size([]digest.Digest{low, middle, top}[i]); err != nil || size != g.Size {
			t.Errorf("layer %d: size %d, %v; want %d", i, g.Size, err, size)
		}
	}
	if a := got[0].Added; len(a) == 0 || a[0].Path != "/cache" {
		t.Errorf("added %+v", a)
	}
	if again, err := s.Shares(t.Context(), []digest.Digest{top, low, top}); err != nil || again[0].Wasted != 0 {
		t.Errorf("a layer that is there twice: %+v, %v", again, err)
	}
}
