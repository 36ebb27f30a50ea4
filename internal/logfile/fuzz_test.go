package logfile

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// FuzzDecode feeds both formats with foreign bytes: no panic, always progress, and repair leaves nothing torn.
func FuzzDecode(f *testing.F) {
	local := &localFormat{}
	seed := append(local.header(map[string]string{"a": "b"}), local.append(nil, "stdout", []byte("x\n"), at)...)
	f.Add(seed)
	f.Add(seed[:len(seed)-1])
	f.Add(newJSONFormat(map[string]string{"a": "b"}).append(nil, "stderr", []byte("x\"\\\n"), at))
	f.Add([]byte(`{"log":"\ud800\u12","stream":"stdout","time":"x"}` + "\n{}\n"))
	f.Add([]byte{0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, driver := range []string{driverJSON, driverLocal} {
			format := newFormat(driver, nil)
			for rest := b; len(rest) > 0; {
				_, n, _ := format.decode(rest)
				if n == 0 {
					break
				}
				if n < 0 || n > len(rest) {
					t.Fatalf("%s: took %d of %d bytes", driver, n, len(rest))
				}
				rest = rest[n:]
			}
			if n := format.sound(b, true); n < 0 || n > len(b) {
				t.Fatalf("%s: sound head of %d bytes of %d", driver, n, len(b))
			}
			if n := format.last(b); n >= len(b) && len(b) > 0 || n < -1 {
				t.Fatalf("%s: last record at %d of %d", driver, n, len(b))
			}
		}
	})
}

// FuzzRoundTrip: what goes in comes out, also behind foreign bytes that a crash or somebody else has left.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("a line\n"), []byte("garbage"))
	f.Add([]byte("\xff\x00\"\\\xe2\x80\xa9"), []byte{})
	f.Fuzz(func(t *testing.T, text, before []byte) {
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			text = text[:i]
		}
		if len(text) >= partSize {
			text = text[:partSize-1]
		}
		for _, driver := range []string{driverJSON, driverLocal} {
			c := Config{Driver: driver, Path: filepath.Join(t.TempDir(), "log")}
			if err := os.WriteFile(c.Path, before, 0o600); err != nil {
				t.Fatal(err)
			}
			w, err := Open(c)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Write("stderr", append(bytes.Clone(text), '\n'), at); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			want := string(text) + "\n"
			if driver == driverJSON { // JSON cannot hold what is not UTF-8
				var s string
				b, _ := json.Marshal(want)
				_ = json.Unmarshal(b, &s)
				want = s
			}
			var last *Record
			err = Read(context.Background(), c, ReadOptions{Stdout: true, Stderr: true, Tail: 1}, func(r Record) error {
				r.Line = bytes.Clone(r.Line)
				last = &r
				return nil
			})
			if err != nil || last == nil || string(last.Line) != want || !last.Time.Equal(at) || last.Stream != "stderr" {
				t.Fatalf("%s: got %+v, %v; want %q", driver, last, err, want)
			}
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	for _, driver := range []string{driverJSON, driverLocal} {
		b.Run(driver, func(b *testing.B) {
			w, err := Open(Config{Driver: driver, Path: filepath.Join(b.TempDir(), "log")})
			if err != nil {
				b.Fatal(err)
			}
			defer w.Close()
			chunk := bytes.Repeat([]byte("a line of output that an application may write\n"), 100)
			b.SetBytes(int64(len(chunk)))
			b.ReportAllocs()
			now := time.Now()
			for b.Loop() {
				if err := w.Write("stdout", chunk, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
