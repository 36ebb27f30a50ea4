package logfile

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var at = time.Date(2026, 11, 22, 3, 4, 5, 678900000, time.UTC)

func drivers(t *testing.T, fn func(t *testing.T, c Config)) {
	for _, d := range []string{driverJSON, driverLocal} {
		t.Run(d, func(t *testing.T) { fn(t, Config{Driver: d, Path: filepath.Join(t.TempDir(), "c.log")}) })
	}
}

func open(t *testing.T, c Config) *Writer {
	t.Helper()
	w, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(); w.wait() })
	return w
}

func write(t *testing.T, w *Writer, stream, s string) {
	t.Helper()
	if err := w.Write(stream, []byte(s), at); err != nil {
		t.Fatal(err)
	}
}

var all = ReadOptions{Stdout: true, Stderr: true, Tail: -1}

func lines(t *testing.T, c Config, o ReadOptions) []string {
	t.Helper()
	var got []string
	err := Read(context.Background(), c, o, func(r Record) error {
		got = append(got, r.Stream+":"+string(r.Line))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func equal(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got  %.300q\nwant %.300q", got, want)
	}
}

func TestJSONIsDockers(t *testing.T) {
	c := Config{Driver: driverJSON, Path: filepath.Join(t.TempDir(), "x"), Attrs: map[string]string{"b": "2", "a": "<1>"}}
	w := open(t, c)
	write(t, w, "stdout", "plain\ttext \"q\" \\ <&> \x1b[0m \xff\xe2\x80\xa8é\r\n")
	write(t, w, "stderr", "unfinished")
	w.Close()
	b, err := os.ReadFile(c.Path)
	if err != nil {
		t.Fatal(err)
	}
	attrs := `"attrs":{"a":"\u003c1\u003e","b":"2"}`
	want := `{"log":"plain\u0009text \"q\" \\ \u003c\u0026\u003e \u001b[0m \ufffd\u2028é\r\n","stream":"stdout",` + attrs +
		`,"time":"2026-11-22T03:04:05.6789Z"}` + "\n" + `{"log":"unfinished","stream":"stderr",` + attrs + `,"time":"`
	if !strings.HasPrefix(string(b), want) {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	for line := range bytes.Lines(b) {
		if !json.Valid(line) {
			t.Errorf("not JSON: %s", line)
		}
	}
	err = Read(context.Background(), c, all, func(r Record) error {
		if r.Attrs["a"] != "<1>" || r.Attrs["b"] != "2" {
			t.Errorf("attributes %v", r.Attrs)
		}
		if r.Stream == "stdout" && !r.Time.Equal(at) {
			t.Errorf("time %v", r.Time)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestLinesAndParts(t *testing.T) {
	drivers(t, func(t *testing.T, c Config) {
		w := open(t, c)
		write(t, w, "stdout", "a\nb")
		write(t, w, "stderr", "between\n")
		write(t, w, "stdout", "c\n\nlast")
		long := strings.Repeat("x", partSize+100)
		write(t, w, "stderr", long[:10])
		write(t, w, "stderr", long[10:]+"\n")
		w.Close()
		equal(t, lines(t, c, all), "stdout:a\n", "stderr:between\n", "stdout:bc\n", "stdout:\n",
			"stderr:"+long[:partSize], "stderr:"+long[partSize:]+"\n", "stdout:last")
	})
}

func TestFilters(t *testing.T) {
	drivers(t, func(t *testing.T, c Config) {
		c.Attrs = map[string]string{"k": "v"}
		w := open(t, c)
		for i := range 100 {
			stream := "stdout"
			if i%2 == 1 {
				stream = "stderr"
			}
			if err := w.Write(stream, fmt.Appendf(nil, "%d\n", i), at.Add(time.Duration(i)*time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		o := all
		o.Tail = 3
		equal(t, lines(t, c, o), "stderr:97\n", "stdout:98\n", "stderr:99\n")
		o.Stdout = false
		equal(t, lines(t, c, o), "stderr:97\n", "stderr:99\n")
		o.Tail = 0
		equal(t, lines(t, c, o))
		o = all
		o.Since, o.Until = at.Add(50*time.Second), at.Add(52*time.Second)
		equal(t, lines(t, c, o), "stdout:50\n", "stderr:51\n", "stdout:52\n")
		o = all
		o.Tail = 1000
		if n := len(lines(t, c, o)); n != 100 {
			t.Errorf("%d lines", n)
		}
		o.Tail = 1
		err := Read(context.Background(), c, o, func(r Record) error {
			if r.Attrs["k"] != "v" {
				t.Errorf("attributes %v in the tail", r.Attrs)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestRotation(t *testing.T) {
	for _, compress := range []bool{false, true} {
		drivers(t, func(t *testing.T, c Config) {
			c.MaxSize, c.MaxFiles, c.Compress = 2000, 4, compress
			w := open(t, c)
			var want []string
			for i := range 1000 {
				write(t, w, "stdout", fmt.Sprintf("line %d\n", i))
				want = append(want, fmt.Sprintf("stdout:line %d\n", i))
			}
			w.wait()
			got := lines(t, c, all)
			if len(got) < 30 {
				t.Fatalf("only %d lines", len(got))
			}
			equal(t, got, want[1000-len(got):]...)
			for _, n := range []int{1, len(got) / 2, len(got) - 1, len(got)} {
				o := all
				o.Tail = n
				equal(t, lines(t, c, o), want[1000-n:]...)
			}
			files := 0
			if err := c.siblings(func(path string, info fs.FileInfo) error {
				files++
				if info.Size() > 2000 {
					t.Errorf("%s has %d bytes", path, info.Size())
				}
				return nil
			}); err != nil || files != 4 {
				t.Errorf("%d files, %v", files, err)
			}
			size, err := Size(c)
			if err != nil || size <= 0 || size > 8000 {
				t.Errorf("size %d, %v", size, err)
			}
		})
	}
}

// TestFollow rotates often while two readers follow: nothing may be lost or told twice.
func TestFollow(t *testing.T) {
	for _, compress := range []bool{false, true} {
		drivers(t, func(t *testing.T, c Config) {
			c.MaxSize, c.MaxFiles, c.Compress = 20_000, 50, compress
			w := open(t, c)
			const total = 5000
			write(t, w, "stdout", "0\n")
			done := make(chan struct{})
			var wg sync.WaitGroup
			for reader := range 2 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					o := all
					o.Follow, o.Done = true, done
					next := 0
					err := Read(context.Background(), c, o, func(r Record) error {
						if want := fmt.Sprintf("%d\n", next); string(r.Line) != want {
							return fmt.Errorf("got %q, want %q", r.Line, want)
						}
						next++
						if reader == 1 && next%100 == 0 {
							time.Sleep(time.Millisecond) // falls behind, over several rotations
						}
						return nil
					})
					if err != nil || next != total {
						t.Errorf("reader %d: %d records, %v", reader, next, err)
					}
				}()
			}
			for i := 1; i < total; i++ {
				write(t, w, "stdout", fmt.Sprintf("%d\n", i))
				if i%50 == 0 {
					time.Sleep(200 * time.Microsecond)
				}
			}
			w.Close()
			close(done)
			wg.Wait()
		})
	}
}

func TestFollowBeforeThereIsALog(t *testing.T) {
	drivers(t, func(t *testing.T, c Config) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		o := all
		o.Follow, o.Tail = true, 0
		got := make(chan string, 10)
		result := make(chan error, 1)
		stop := fmt.Errorf("enough")
		go func() {
			result <- Read(ctx, c, o, func(r Record) error {
				got <- string(r.Line)
				if string(r.Line) == "end\n" {
					return stop
				}
				return nil
			})
		}()
		time.Sleep(20 * time.Millisecond)
		w := open(t, c)
		write(t, w, "stdout", "first\n")
		if s := <-got; s != "first\n" {
			t.Errorf("got %q", s)
		}
		write(t, w, "stdout", "end\n")
		if err := <-result; !errors.Is(err, stop) {
			t.Errorf("error %v", err)
		}
		cancel()
		if err := Read(ctx, c, o, func(Record) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("after cancel: %v", err)
		}
	})
}

func TestFollowUntil(t *testing.T) {
	drivers(t, func(t *testing.T, c Config) {
		open(t, c)
		o := all
		o.Follow, o.Until = true, time.Now().Add(30*time.Millisecond)
		if got := lines(t, c, o); len(got) != 0 {
			t.Errorf("got %q", got)
		}
	})
}

func TestTornRecordIsRepaired(t *testing.T) {
	drivers(t, func(t *testing.T, c Config) {
		w := open(t, c)
		write(t, w, "stdout", "whole 1\nwhole 2\n")
		w.Close()
		whole, err := os.ReadFile(c.Path)
		if err != nil {
			t.Fatal(err)
		}
		w = open(t, c)
		write(t, w, "stdout", "torn\n")
		w.Close()
		full, err := os.ReadFile(c.Path)
		if err != nil {
			t.Fatal(err)
		}
		for n := len(whole); n < len(full); n++ {
			if err := os.WriteFile(c.Path, full[:n], 0o600); err != nil {
				t.Fatal(err)
			}
			equal(t, lines(t, c, all), "stdout:whole 1\n", "stdout:whole 2\n")
			o := all
			o.Tail = 1
			equal(t, lines(t, c, o), "stdout:whole 2\n")
			w := open(t, c)
			write(t, w, "stderr", "after\n")
			w.Close()
			equal(t, lines(t, c, all), "stdout:whole 1\n", "stdout:whole 2\n", "stderr:after\n")
		}
	})
}

func TestDamageInTheMiddle(t *testing.T) {
	drivers(t, func(t *testing.T, c Config) {
		w := open(t, c)
		write(t, w, "stdout", "one\n")
		w.Close()
		f, err := os.OpenFile(c.Path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString("garbage \x05\x00\x00\x00 more\n")
		f.Close()
		w = open(t, c)
		write(t, w, "stdout", "two\n")
		w.Close()
		equal(t, lines(t, c, all), "stdout:one\n", "stdout:two\n")
		for n, want := range map[int][]string{1: {"stdout:two\n"}, 2: {"stdout:one\n", "stdout:two\n"}} {
			o := all
			o.Tail = n
			equal(t, lines(t, c, o), want...)
		}
	})
}

func TestDockersOwnFilesAreRead(t *testing.T) {
	c := Config{Driver: driverJSON, Path: filepath.Join(t.TempDir(), "x")}
	older := `{"log":"old\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}` + "\n"
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write([]byte(older))
	z.Close()
	os.WriteFile(c.Path+".2.gz", packed.Bytes(), 0o600)
	os.WriteFile(c.Path+".1", []byte(`{"stream":"stderr","time":"2026-01-01T01:00:00+01:00","log":"\ud83d\ude00\/\t\n"}`+"\n"), 0o600)
	os.WriteFile(c.Path, []byte(older), 0o600)
	equal(t, lines(t, c, all), "stdout:old\n", "stderr:😀/\t\n", "stdout:old\n")
}

func TestNone(t *testing.T) {
	c, err := ParseConfig("none", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	w := open(t, c)
	write(t, w, "stdout", "x\n")
	err = Read(context.Background(), c, all, func(Record) error { return nil })
	if !errdefs.IsNotImplemented(err) || err.Error() != "configured logging driver does not support reading" {
		t.Errorf("error %v", err)
	}
	if n, err := Size(c); n != 0 || err != nil {
		t.Errorf("size %d, %v", n, err)
	}
}

func TestDiskFull(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full")
	}
	link := filepath.Join(t.TempDir(), "full")
	if err := os.Symlink("/dev/full", link); err != nil {
		t.Fatal(err)
	}
	w, err := Open(Config{Driver: driverJSON, Path: link})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Write("stdout", []byte("x\n"), at); err == nil {
		t.Error("a write to a full disk succeeded")
	}
}

// wait waits until no compression runs in the background.
func (w *Writer) wait() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waitPacked()
}
