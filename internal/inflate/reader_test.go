package inflate

import (
	"bytes"
	"compress/flate"
	stdgzip "compress/gzip"
	"errors"
	"io"
	"math/rand"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
)

// corpora are inputs that exercise what a compressor can produce.
func corpora() map[string][]byte {
	rnd := rand.New(rand.NewSource(1))
	noise := make([]byte, 300<<10)
	rnd.Read(noise)
	few := make([]byte, 200<<10)
	for i := range few {
		few[i] = "ab"[rnd.Intn(2)]
	}
	skewed := make([]byte, 400<<10) // some codes become longer than the first level
	for i := range skewed {
		skewed[i] = byte(rnd.ExpFloat64() * 9)
	}
	far := append(append(bytes.Clone(noise[:32<<10]), noise[:32<<10]...), noise[:40<<10]...)
	exe, _ := os.ReadFile("/proc/self/exe")
	return map[string][]byte{
		"empty": nil, "one": {7}, "zeros": make([]byte, 1<<20), "noise": noise, "two letters": few, "skewed": skewed, "far": far,
		"text": []byte(strings.Repeat("the quick brown fox jumps over the lazy dog\n", 10000)), "program": exe[:min(len(exe), 1<<20)],
	}
}

func deflate(t testing.TB, level int, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := stdgzip.NewWriterLevel(&buf, level)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(data)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestReader(t *testing.T) {
	for name, data := range corpora() {
		for _, level := range []int{flate.NoCompression, flate.BestSpeed, flate.DefaultCompression, flate.BestCompression, flate.HuffmanOnly} {
			packed := deflate(t, level, data)
			for how, r := range map[string]io.Reader{
				"whole": bytes.NewReader(packed), "half": iotest.HalfReader(bytes.NewReader(packed)),
				"data with error": iotest.DataErrReader(bytes.NewReader(packed)),
			} {
				got, err := io.ReadAll(NewReader(r))
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s level %d %s: %d bytes of %d, %v", name, level, how, len(got), len(data), err)
				}
			}
		}
	}
}

func TestSmallReads(t *testing.T) {
	data := corpora()["skewed"]
	packed := deflate(t, 6, data)
	got, err := io.ReadAll(iotest.OneByteReader(NewReader(iotest.OneByteReader(bytes.NewReader(packed)))))
	if err != nil || !bytes.Equal(got, data) {
		t.Error(len(got), err)
	}
}

// TestMultistream reads several streams in one input, whose matches must not reach into the stream before.
func TestMultistream(t *testing.T) {
	var packed, want []byte
	for _, part := range []string{"first", "", strings.Repeat("second", 50000), "third"} {
		packed = append(packed, deflate(t, 6, []byte(part))...)
		want = append(want, part...)
	}
	for _, padding := range []int{0, 1, 1 << 20} {
		got, err := io.ReadAll(NewReader(bytes.NewReader(append(bytes.Clone(packed), make([]byte, padding)...))))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("padding %d: %d bytes, %v", padding, len(got), err)
		}
	}
	_, err := io.ReadAll(NewReader(bytes.NewReader(append(bytes.Clone(packed), "\x00\x00junk"...))))
	if !errors.Is(err, ErrHeader) {
		t.Error("junk after the end:", err)
	}
}

func TestHeader(t *testing.T) {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Name, w.Comment, w.Extra = "name", "comment", bytes.Repeat([]byte("x"), 60000)
	w.Write([]byte("data"))
	w.Close()
	got, err := io.ReadAll(NewReader(&buf))
	if err != nil || string(got) != "data" {
		t.Error(string(got), err)
	}
}

func TestErrors(t *testing.T) {
	good := deflate(t, 6, []byte("hello hello hello"))
	sum, size := bytes.Clone(good), bytes.Clone(good)
	sum[len(sum)-8] ^= 1
	size[len(size)-1] ^= 1
	broken := errors.New("broken")
	for _, c := range []struct {
		name string
		r    io.Reader
		want error
	}{
		{"nothing", strings.NewReader(""), io.EOF},
		{"no gzip", strings.NewReader("this is no gzip stream"), ErrHeader},
		{"checksum", bytes.NewReader(sum), ErrChecksum},
		{"size", bytes.NewReader(size), ErrChecksum},
		{"block type", bytes.NewReader(append(bytes.Clone(good[:10]), 7)), ErrCorrupt},
		{"source", io.MultiReader(bytes.NewReader(good[:15]), iotest.ErrReader(broken)), broken},
		{"source after the end", io.MultiReader(bytes.NewReader(good), iotest.ErrReader(broken)), broken},
	} {
		if _, err := NewReader(c.r).Read(make([]byte, 1)); c.name == "nothing" && !errors.Is(err, io.EOF) {
			t.Error("nothing:", err)
		}
		if c.name == "nothing" {
			continue
		}
		z := NewReader(c.r)
		if s, ok := c.r.(io.Seeker); ok {
			s.Seek(0, io.SeekStart)
		} else {
			z = NewReader(io.MultiReader(bytes.NewReader(good[:15]), iotest.ErrReader(broken)))
		}
		if _, err := io.ReadAll(z); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

// TestTruncated cuts streams everywhere: what the reference decodes is decoded, then the end is unexpected.
func TestTruncated(t *testing.T) {
	for _, level := range []int{0, 1, 6, -2} {
		packed := deflate(t, level, corpora()["skewed"][:3000])
		for n := 10; n < len(packed); n++ {
			compare(t, packed[:n])
		}
	}
}

// compare decodes a stream with this package and with the standard library's.
func compare(t testing.TB, packed []byte) {
	t.Helper()
	got, err := io.ReadAll(NewReader(bytes.NewReader(packed)))
	var want []byte
	ref, rerr := stdgzip.NewReader(bytes.NewReader(packed))
	if rerr == nil {
		want, rerr = io.ReadAll(ref)
	}
	if rerr != nil && padded(packed, err) {
		return // this one takes padding after the end
	}
	if (err == nil) != (rerr == nil) && !errors.Is(rerr, io.EOF) {
		t.Fatalf("error %v, the reference's %v, input %x", err, rerr, packed)
	}
	if err == nil && !bytes.Equal(got, want) || !bytes.HasPrefix(got, want) && !bytes.HasPrefix(want, got) {
		t.Fatalf("%d bytes, the reference has %d, input %x", len(got), len(want), packed)
	}
	// The reference wants the bits of an end of block there before it decodes a shorter code.
	if errors.Is(rerr, io.ErrUnexpectedEOF) && (!errors.Is(err, io.ErrUnexpectedEOF) || len(got) < len(want)) {
		t.Fatalf("error %v after %d bytes, the reference's %v after %d, input %x", err, len(got), rerr, len(want), packed)
	}
}

func padded(packed []byte, err error) bool { return err == nil && bytes.HasSuffix(packed, []byte{0}) }

func FuzzReader(f *testing.F) {
	for _, data := range corpora() {
		data = data[:min(len(data), 2000)]
		for _, level := range []int{0, 1, 6, -2} {
			packed := deflate(f, level, data)
			f.Add(packed)
			f.Add(packed[:len(packed)-9])
			packed[len(packed)/2] ^= 4
			f.Add(packed)
		}
	}
	f.Fuzz(func(t *testing.T, packed []byte) { compare(t, packed) })
}

func BenchmarkReader(b *testing.B) {
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		b.Skip("no program to compress")
	}
	for name, data := range map[string][]byte{"program": exe, "text": corpora()["skewed"]} {
		packed := deflate(b, 6, data)
		for who, open := range map[string]func(io.Reader) (io.Reader, error){
			"kist":      func(r io.Reader) (io.Reader, error) { return NewReader(r), nil },
			"klauspost": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
			"standard":  func(r io.Reader) (io.Reader, error) { return stdgzip.NewReader(r) },
		} {
			b.Run(name+"/"+who, func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				buf := make([]byte, 256<<10)
				for range b.N {
					r, err := open(bytes.NewReader(packed))
					if err != nil {
						b.Fatal(err)
					}
					if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, buf); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
