package chunk

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

func pieces(t testing.TB, b []byte) [][]byte {
	t.Helper()
	var list [][]byte
	if err := Split(bytes.NewReader(b), func(p []byte) error {
		list = append(list, bytes.Clone(p))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestSizes(t *testing.T) {
	data := noise(1, 32<<20)
	list := pieces(t, data)
	if !bytes.Equal(bytes.Join(list, nil), data) {
		t.Fatal("the pieces are not the content")
	}
	for i, p := range list {
		if len(p) > Max || len(p) < Min && i < len(list)-1 {
			t.Errorf("piece %d has %d bytes", i, len(p))
		}
	}
	if mean := len(data) / len(list); mean < Average*3/4 || mean > Average*3/2 {
		t.Errorf("mean size %d", mean)
	}
	for _, n := range []int{0, 1, Min, Min + 1, Average, Max, Max + 1, cutterRoom, cutterRoom + 1} {
		if got := bytes.Join(pieces(t, data[:n]), nil); !bytes.Equal(got, data[:n]) {
			t.Errorf("%d bytes: got %d", n, len(got))
		}
	}
	// What never offers a place to cut is cut all the same.
	for _, p := range pieces(t, make([]byte, 3*Max+5))[:3] {
		if len(p) != Max {
			t.Errorf("zeros: %d", len(p))
		}
	}
}

func TestInsertionSpoilsLittle(t *testing.T) {
	data := noise(2, 8<<20)
	known := map[Sum]bool{}
	for _, p := range pieces(t, data) {
		known[SumOf(p)] = true
	}
	for _, at := range []int{0, 1 << 20, 5 << 20} {
		fresh := 0
		changed := bytes.Join([][]byte{data[:at], []byte("one line more\n"), data[at:]}, nil)
		for _, p := range pieces(t, changed) {
			if !known[SumOf(p)] {
				fresh += len(p)
			}
		}
		if fresh > 3*Max {
			t.Errorf("inserted at %d: %d bytes are new", at, fresh)
		}
	}
}

// parts collects a tar's parts.
type parts struct {
	all, recipe []byte
	pieces      map[Sum]int
}

func (p *parts) Literal(b []byte) error {
	p.all, p.recipe = append(p.all, b...), AppendLiteral(p.recipe, b)
	return nil
}

func (p *parts) Piece(b []byte) error {
	p.all, p.recipe = append(p.all, b...), AppendPiece(p.recipe, len(b), SumOf(b))
	p.pieces[SumOf(b)] = len(b)
	return nil
}

func taken(t testing.TB, b []byte) *parts {
	t.Helper()
	p := &parts{pieces: map[Sum]int{}}
	if err := Tar(bytes.NewReader(b), p); err != nil {
		t.Fatal(err)
	}
	return p
}

type file struct {
	name string
	body []byte
}

func tarOf(t testing.TB, seconds int64, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Size: int64(len(f.body)), Mode: 0o644, Typeflag: tar.TypeReg}
		h.PAXRecords = map[string]string{"KIST.at": strings.Repeat("x", int(seconds))}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestTarKeepsFilesApart(t *testing.T) {
	a, b := noise(3, 300<<10), noise(4, 5000)
	first := tarOf(t, 1, file{name: "a", body: a}, file{name: "small", body: []byte("x")}, file{name: "b", body: b})
	second := tarOf(t, 20, file{name: "new", body: noise(5, 700)}, file{name: "z/b", body: b}, file{name: "a", body: a})
	one, two := taken(t, first), taken(t, second)
	if !bytes.Equal(one.all, first) || !bytes.Equal(two.all, second) {
		t.Fatal("the parts are not the tar")
	}
	for sum, n := range one.pieces {
		if two.pieces[sum] != n {
			t.Errorf("a piece of %d bytes is not found again", n)
		}
	}
	if len(two.pieces) != len(one.pieces)+1 {
		t.Errorf("%d and %d pieces", len(one.pieces), len(two.pieces))
	}
}

func TestRecipeRoundTrip(t *testing.T) {
	src := tarOf(t, 3, file{name: "a", body: noise(6, 1<<20)}, file{name: "b", body: noise(7, 100)})
	store := map[Sum][]byte{}
	v := &parts{pieces: map[Sum]int{}}
	if err := Tar(bytes.NewReader(src), keeper{v, store}); err != nil {
		t.Fatal(err)
	}
	var back []byte
	r := NewReader(bytes.NewReader(v.recipe))
	for {
		op, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if op.Piece {
			back = append(back, store[op.Sum]...)
		} else {
			back = append(back, op.Bytes...)
		}
	}
	if !bytes.Equal(back, src) {
		t.Error("not the same tar")
	}
}

type keeper struct {
	*parts
	store map[Sum][]byte
}

func (k keeper) Piece(b []byte) error {
	k.store[SumOf(b)] = bytes.Clone(b)
	return k.parts.Piece(b)
}

func TestBrokenRecipes(t *testing.T) {
	for _, s := range []string{"\x00", "\x01", "\x01\x00", "\x01\x05abc", "\x02\x01short", "\x04\x01a", "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\x03\x81\x80\x10"} {
		_, err := NewReader(strings.NewReader(s)).Next()
		if !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestErrorsOfBothSides(t *testing.T) {
	stop := errors.New("stop")
	src := tarOf(t, 1, file{name: "a", body: noise(8, 1<<20)})
	if err := Tar(io.MultiReader(bytes.NewReader(src[:600<<10]), failing{stop}), &parts{pieces: map[Sum]int{}}); !errors.Is(err, stop) {
		t.Errorf("of the reader: %v", err)
	}
	if err := Tar(bytes.NewReader(src), refusing{stop}); !errors.Is(err, stop) {
		t.Errorf("of the visitor: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type refusing struct{ err error }

func (refusing) Literal([]byte) error { return nil }
func (r refusing) Piece([]byte) error { return r.err }

func FuzzTar(f *testing.F) {
	f.Add(tarOf(f, 1, file{name: "a", body: noise(9, 2000)}))
	f.Add([]byte("no tar"))
	f.Add(tarOf(f, 2, file{name: "a", body: noise(9, 2000)})[:700])
	f.Fuzz(func(t *testing.T, b []byte) {
		if p := taken(t, b); !bytes.Equal(p.all, b) {
			t.Errorf("%d bytes became %d", len(b), len(p.all))
		}
	})
}

func FuzzRecipe(f *testing.F) {
	f.Add(AppendLiteral(AppendPiece(AppendBytes(nil, []byte("abc")), 5, Sum{1}), []byte("x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b))
		for {
			op, err := r.Next()
			if err != nil {
				return
			}
			if op.Size <= 0 || op.Size > Max {
				t.Fatalf("%+v", op)
			}
		}
	})
}

func BenchmarkCut(b *testing.B) {
	data := noise(10, 64<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		for rest := data; len(rest) > 0; {
			rest = rest[cut(rest):]
		}
	}
}

func BenchmarkSum(b *testing.B) {
	data := noise(11, Average)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		SumOf(data)
	}
}
