package layer

import (
	"archive/tar"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestBeneath(t *testing.T) {
	s := open(t)
	low := unpack(t, s,
		file{name: "data/", kind: tar.TypeDir}, file{name: "data/gone"}, file{name: "abs", kind: tar.TypeSymlink, link: "/data"},
		file{name: "data/rel", kind: tar.TypeSymlink, link: "../new/place"}, file{name: "loop", kind: tar.TypeSymlink, link: "loop"},
		file{name: "out", kind: tar.TypeSymlink, link: "../../../data/x"},
	)
	top := unpack(t, s, file{name: "data/.wh.gone"})
	_, err := s.Prepare(t.Context(), "c1", []digest.Digest{low, top}, PrepareOptions{})
	must(t, err)
	for name, want := range map[string]struct {
		at     string
		exists bool
	}{
		"/data": {"data", true}, "data/gone": {"data/gone", false}, "/abs": {"data", true}, "abs/x/y": {"data/x/y", false},
		"/data/rel": {"new/place", false}, "/data/rel/z": {"new/place/z", false}, "/": {"", true}, "out": {"data/x", false},
		"/proc": {"proc", true}, "/none/../data": {"data", true}, "data/rel/../../abs": {"data", true},
	} {
		at, exists, err := s.Beneath("c1", name)
		if err != nil || at != want.at || exists != want.exists {
			t.Errorf("%s: %q %v %v, want %q %v", name, at, exists, err, want.at, want.exists)
		}
	}
	if _, _, err := s.Beneath("c1", "loop"); err == nil {
		t.Error("a loop led somewhere")
	}
	must(t, s.Remove(t.Context(), "c1"))
}
