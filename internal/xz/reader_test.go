package xz

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"
)

// pack runs the program xz.
func pack(t testing.TB, data []byte, args ...string) []byte {
	t.Helper()
	program, err := exec.LookPath("xz")
	if err != nil {
		t.Skip("skip: needs the program xz (Debian: xz-utils)")
	}
	cmd := exec.Command(program, append([]string{"-c", "-z", "-T1"}, args...)...)
	cmd.Stdin = bytes.NewReader(data)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// samples are of all sorts.
func samples(t testing.TB) map[string][]byte {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 200<<10)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	var text bytes.Buffer
	for i := range 12000 {
		fmt.Fprintf(&text, "Package: lib%d\nDepends: libc6 (>= 2.%d), %x\n", i, i%40, rnd.Uint32()&0xfff)
	}
	mixed := slicesOf(rnd, noise, text.Bytes())
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"empty": nil, "byte": {7}, "zeros": make([]byte, 3<<20), "noise": noise, "text": text.Bytes(), "mixed": mixed,
		"program": program[:min(len(program), 1<<20)],
	}
}

// slicesOf makes data that is compressed here and stored there.
func slicesOf(rnd *rand.Rand, a, b []byte) []byte {
	var out []byte
	for range 40 {
		part := a
		if rnd.IntN(2) == 0 {
			part = b
		}
		n := rnd.IntN(90 << 10)
		from := rnd.IntN(len(part) - n)
		out = append(out, part[from:from+n]...)
	}
	return out
}

func TestReadsWhatXzWrites(t *testing.T) {
	options := map[string]string{
		"default": "-6", "fast": "-0", "best": "-9", "small dictionary": "--lzma2=preset=6,dict=4KiB",
		"properties": "--lzma2=preset=3,lc=0,lp=4,pb=4,dict=64KiB", "no properties": "--lzma2=preset=1,lc=4,lp=0,pb=0",
		"crc32": "-1 --check=crc32", "sha256": "-1 --check=sha256", "no check": "-1 --check=none",
		"blocks": "-1 --block-size=100KiB", "blocks with sizes": "-1 -T2 --block-size=200KiB",
		"x86": "--x86 --lzma2=preset=1", "delta": "--delta=dist=4 --lzma2=preset=1", "three filters": "--delta=dist=1 --x86=start=16 --lzma2=preset=1",
		"arm64": "--arm64 --lzma2=preset=1",
	}
	thorough := map[string]bool{"default": true, "fast": true, "three filters": true, "arm64": true}
	data := samples(t)
	for name, args := range options {
		t.Run(name, func(t *testing.T) {
			for kind, want := range data {
				if kind != "text" && kind != "byte" && kind != "mixed" && !thorough[name] {
					continue
				}
				if name == "arm64" && exec.Command("xz", "--arm64", "--lzma2=preset=1", "-c", os.DevNull).Run() != nil {
					t.Skip("skip: this xz knows no ARM64 filter")
				}
				packed := pack(t, want, strings.Fields(args)...)
				got, err := io.ReadAll(NewReader(bytes.NewReader(packed)))
				if err != nil {
					t.Fatalf("%s: %v", kind, err)
				}
				if !bytes.Equal(got, want) {
					t.Fatalf("%s: %d bytes differ from the %d written", kind, len(got), len(want))
				}
			}
		})
	}
}

func TestLongStreamsSlide(t *testing.T) {
	want := bytes.Repeat(samples(t)["mixed"], 4)
	for _, dict := range []string{"4KiB", "1MiB", "3333333"} {
		packed := pack(t, want, "--lzma2=preset=1,dict="+dict)
		sum := sha256.New()
		n, err := NewReader(iotest.OneByteReader(bytes.NewReader(packed))).WriteTo(sum)
		if err != nil || n != int64(len(want)) {
			t.Fatal(dict, n, err)
		}
		if w := sha256.Sum256(want); !bytes.Equal(sum.Sum(nil), w[:]) {
			t.Error(dict, "differs")
		}
	}
}

func TestStreamsAndPadding(t *testing.T) {
	a, b := pack(t, []byte("one "), "-1"), pack(t, []byte("two"), "-9", "--check=crc32")
	none := pack(t, nil)
	z := NewReader(nil)
	for range 2 {
		z.Reset(bytes.NewReader(bytes.Join([][]byte{a, make([]byte, 8), none, b, make([]byte, 4)}, nil)))
		got, err := io.ReadAll(z)
		if string(got) != "one two" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
	}
	for name, in := range map[string][]byte{
		"odd padding": append(bytes.Clone(a), 0, 0), "padding first": append(make([]byte, 4), a...), "rubbish behind": append(bytes.Clone(a), "rubbish!!!!!"...),
		"nothing": nil, "short": a[:10],
	} {
		if _, err := io.ReadAll(NewReader(bytes.NewReader(in))); err == nil {
			t.Error(name, "is read")
		}
	}
}

// No damage may go unnoticed, and none may do harm.
func TestDamageIsNoticed(t *testing.T) {
	want := samples(t)["text"][:3000]
	for _, args := range [][]string{{"-6"}, {"-0", "--check=sha256"}, {"-6", "--block-size=1KiB", "-T2"}} {
		packed := pack(t, want, args...)
		for i := range packed {
			broken := bytes.Clone(packed)
			broken[i] ^= 1 << (i % 8)
			if _, err := io.ReadAll(NewReader(bytes.NewReader(broken))); err == nil {
				t.Errorf("%v: byte %d is wrong and nobody says so", args, i)
			}
			if _, err := io.ReadAll(NewReader(bytes.NewReader(packed[:i]))); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%v: cut off at %d: %v", args, i, err)
			}
		}
	}
}

func TestLargeDictionariesAreRefused(t *testing.T) {
	packed := pack(t, []byte("small"), "--lzma2=preset=1,dict=768MiB")
	if _, err := io.ReadAll(NewReader(bytes.NewReader(packed))); !errors.Is(err, ErrDictionary) {
		t.Error(err)
	}
	// What is claimed costs nothing.
	packed = pack(t, []byte("small"), "--lzma2=preset=1,dict=256MiB")
	z := NewReader(bytes.NewReader(packed))
	if _, err := io.ReadAll(z); err != nil || len(z.block.w) > 1<<20 {
		t.Error(err, len(z.block.w))
	}
}

func FuzzReader(f *testing.F) {
	for _, args := range [][]string{{"-0"}, {"-9", "--check=none"}, {"--x86", "--delta=dist=2", "--lzma2=preset=0,lc=1,lp=2"}} {
		f.Add(pack(f, []byte(strings.Repeat("a stream of a few words, and some more. ", 20)), args...))
	}
	z := NewReader(nil)
	f.Fuzz(func(t *testing.T, in []byte) {
		z.Reset(bytes.NewReader(in))
		got, err := io.ReadAll(io.LimitReader(z, 8<<20))
		if err != nil || len(got) == 8<<20 {
			return
		}
		program, err := exec.LookPath("xz")
		if err != nil {
			return
		}
		cmd := exec.Command(program, "-d", "-c", "-q", "-q")
		cmd.Stdin = bytes.NewReader(in)
		if want, err := cmd.Output(); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, and xz says %d: %v", len(got), len(want), err)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	for _, kind := range []string{"program", "text"} {
		data := samples(b)[kind]
		packed := pack(b, data, "-6")
		b.Run(kind, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			z := NewReader(nil)
			for b.Loop() {
				z.Reset(bytes.NewReader(packed))
				if _, err := z.WriteTo(io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
