package front

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// daemon listens where Begin looks, and hands over each command with the stream that came with it.
func daemon(t *testing.T) <-chan *handed {
	t.Helper()
	// t.TempDir's are longer than a socket's address may be.
	dir, err := os.MkdirTemp("", "front")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for name, value := range map[string]string{
		"KIST_EXEC_ROOT": dir, "KIST_HOST": "", "DOCKER_HOST": "", "DOCKER_API_VERSION": "", "DOCKER_CONFIG": dir,
	} {
		t.Setenv(name, value)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(dir, Socket), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	ch := make(chan *handed)
	go func() {
		defer close(ch)
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			b, oob := make([]byte, MaxPacket), make([]byte, 64)
			n, oobn, _, _, err := conn.ReadMsgUnix(b, oob)
			if err != nil {
				t.Error(err)
				return
			}
			m, err := unix.ParseSocketControlMessage(oob[:oobn])
			if err != nil || len(m) != 1 {
				t.Errorf("%v, %d control messages", err, len(m))
				return
			}
			fds, err := unix.ParseUnixRights(&m[0])
			if err != nil || len(fds) != 1 {
				t.Errorf("%v, descriptors %v", err, fds)
				return
			}
			ch <- &handed{conn: conn, stream: os.NewFile(uintptr(fds[0]), "stream"), text: string(b[:n])}
		}
	}()
	t.Cleanup(func() {
		l.Close()
		for h := range ch {
			h.conn.Close()
			h.stream.Close()
		}
	})
	return ch
}

type handed struct {
	conn   *net.UnixConn
	stream *os.File
	text   string
}

func (h *handed) say(t *testing.T, packets ...string) {
	t.Helper()
	for _, p := range packets {
		if _, err := h.conn.Write([]byte(p)); err != nil {
			t.Error(err)
		}
	}
}

func frame(stream byte, text string) string {
	head := make([]byte, 8)
	head[0] = stream
	binary.BigEndian.PutUint32(head[4:], uint32(len(text)))
	return string(head) + text
}

// output redirects what a command writes, and returns what reads it.
func output(t *testing.T, c *Command) func() (out, err string) {
	t.Helper()
	var files [2]*os.File
	for i, fd := range []*int{&c.demux.out, &c.demux.err} {
		f, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		files[i], *fd = f, int(f.Fd())
	}
	return func() (string, string) {
		var texts [2]string
		for i, f := range files {
			b, err := os.ReadFile(f.Name())
			if err != nil {
				t.Fatal(err)
			}
			texts[i] = string(b)
		}
		return texts[0], texts[1]
	}
}

func TestFinish(t *testing.T) {
	long := strings.Repeat("long line\n", 20000)
	for _, tc := range []struct {
		name     string
		packets  []string
		stream   string
		result   Result
		code     int
		out, err string
		id       string
		removed  bool
	}{
		{name: "ends", packets: []string{"irabc", "x0\n"}, stream: frame(1, "one") + frame(2, "two") + frame(1, " three"), out: "one three", err: "two", id: "abc", removed: true},
		{name: "exit code", packets: []string{"iabc", "x137\n"}, code: 137, id: "abc"},
		{name: "detached", packets: []string{"iabc", "x0\nabc\n"}, out: "abc\n", id: "abc"},
		{name: "warnings", packets: []string{"iabc", "wcareful\n", "x0\n"}, err: "careful\n", id: "abc"},
		{name: "not started", packets: []string{"iabc", "f127\nno such program\n"}, code: 127, err: "no such program\n", id: "abc"},
		{name: "declined", packets: []string{"d"}, result: Declined},
		{name: "lost", packets: []string{"irabc"}, stream: frame(1, "last words"), result: Lost, out: "last words", id: "abc", removed: true},
		{name: "much output", packets: []string{"x0\n"}, stream: frame(1, long) + frame(1, "") + frame(2, long), out: long, err: long},
		{name: "a code that is none", packets: []string{"xno\n"}, code: 1},
		{name: "a frame that is none", packets: []string{"x0\n"}, stream: frame(1, "good") + "GET / HTTP/1.1\r\n\r\n", out: "good"},
		{name: "an unknown packet", packets: []string{"?", "x0\n"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ch := daemon(t)
			c := Begin([]string{"run", "--rm", "box", "a b", ""})
			if c == nil {
				t.Fatal("not begun")
			}
			h := <-ch
			if want := "1\x00" + Plain + "\x00run\x00--rm\x00box\x00a b\x00\x00"; h.text != want && h.text != strings.Replace(want, Plain, Coloured, 1) {
				t.Errorf("request %q", h.text)
			}
			read := output(t, c)
			done := make(chan struct{})
			go func() {
				defer close(done)
				h.say(t, tc.packets...)
				// Whoever does not read to the end gets no more.
				_, _ = io.WriteString(h.stream, tc.stream)
				h.stream.Close()
				if tc.result == Lost {
					h.conn.Close()
				}
			}()
			result := c.Finish(time.Minute)
			<-done
			h.conn.Close()
			if out, err := read(); result != tc.result || c.Code() != tc.code || out != tc.out || err != tc.err || c.ID != tc.id || c.Removed != tc.removed {
				t.Errorf("result %d, code %d, id %q %v, %d bytes %.80q, %d bytes %.80q", result, c.Code(), c.ID, c.Removed, len(out), out, len(err), err)
			}
		})
	}
}

// A daemon that goes before it has started the container leaves the other end of the stream with the keeper, which holds it for a
// start that nobody will ask for.
func TestLostBeforeTheStart(t *testing.T) {
	ch := daemon(t)
	c := Begin([]string{"run", "box", "true"})
	h := <-ch
	h.conn.Close()
	if r := c.Finish(10 * time.Second); r != Lost || c.ID != "" {
		t.Errorf("result %d, id %q", r, c.ID)
	}
	h.stream.Close()
}

// TestPatience comes back with a command that goes on, and passes a signal.
func TestPatience(t *testing.T) {
	ch := daemon(t)
	c := Begin([]string{"run", "box", "sleep"})
	h := <-ch
	go func() {
		time.Sleep(20 * time.Millisecond) // A daemon may take its time: it has not accepted the command yet.
		h.say(t, "iabc")
	}()
	if r := c.Finish(time.Millisecond); r != Pending || c.ID != "abc" || !c.Run {
		t.Fatalf("result %d, %+v", r, c)
	}
	c.Signal(15)
	b := make([]byte, 10)
	if n, err := h.conn.Read(b); err != nil || string(b[:n]) != "s15" {
		t.Errorf("%q, %v", b[:n], err)
	}
	h.say(t, "x143\n")
	h.stream.Close()
	if r := c.Finish(0); r != Done || c.Code() != 143 {
		t.Errorf("result %d, code %d", r, c.Code())
	}
}

func TestNotForTheDaemon(t *testing.T) {
	for name, tc := range map[string]struct {
		args     []string
		env      map[string]string
		settings string
	}{
		"another command": {args: []string{"ps", "-a"}},
		"nothing":         {args: nil},
		"too long":        {args: []string{"run", "box", strings.Repeat("x", MaxPacket)}},
		"another daemon":  {args: []string{"run", "box"}, env: map[string]string{"DOCKER_HOST": "unix:///run/other.sock"}},
		"its own choice":  {args: []string{"run", "box"}, env: map[string]string{"KIST_HOST": "tcp://127.0.0.1:1"}},
		"another version": {args: []string{"run", "box"}, env: map[string]string{"DOCKER_API_VERSION": "1.41"}},
		"no daemon":       {args: []string{"run", "box"}, env: map[string]string{"KIST_EXEC_ROOT": "/nonexistent"}},
		"proxies":         {args: []string{"run", "box"}, settings: `{"proxies": {"default": {"httpProxy": "http://p"}}}`},
		"broken settings": {args: []string{"run", "box"}, settings: `not JSON`},
		"long settings":   {args: []string{"run", "box"}, settings: "{" + strings.Repeat(" ", maxSettings) + "}"},
	} {
		t.Run(name, func(t *testing.T) {
			daemon(t)
			for k, v := range tc.env {
				t.Setenv(k, v)
			}
			if tc.settings != "" {
				if err := os.WriteFile(filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"), []byte(tc.settings), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if Begin(tc.args) != nil {
				t.Error("begun")
			}
		})
	}
}

func TestPlainSettings(t *testing.T) {
	ch := daemon(t)
	if err := os.WriteFile(filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"), []byte("\n{\"auths\": {}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Begin([]string{"run", "box"})
	if c == nil {
		t.Fatal("not begun")
	}
	h := <-ch
	h.say(t, "d")
	if r := c.Finish(0); r != Declined {
		t.Errorf("result %d", r)
	}
}

// FuzzDemux cuts a stream into pieces of all sizes: the output must not depend on where.
func FuzzDemux(f *testing.F) {
	f.Add([]byte(frame(1, "out")+frame(2, "err")), uint8(3))
	f.Add([]byte(frame(1, "")+"\x01\x00\x00\x00\xff\xff\xff\xffx"), uint8(1))
	f.Add([]byte("\x04\x00\x00\x00"), uint8(9))
	split := func(t *testing.T, b []byte, size int) []byte {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		d := demux{out: int(w.Fd()), err: int(w.Fd())}
		for len(b) > 0 {
			n := copy(d.room(), b[:min(size, len(b))])
			if !d.took(n) {
				break
			}
			b = b[n:]
		}
		w.Close()
		out, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		b = b[:min(len(b), 4096)] // what a pipe takes
		if a, b := split(t, b, 4096), split(t, b, int(size)+1); !bytes.Equal(a, b) {
			t.Errorf("%q and %q", a, b)
		}
	})
}

func TestText(t *testing.T) {
	for n, want := range map[int]string{0: "0", 7: "7", 255: "255", 1000: "1000"} {
		if got := string(itoa(n)); got != want || n < 256 && atoi(got) != n {
			t.Errorf("%d: %s, %d", n, got, atoi(got))
		}
	}
	for _, s := range []string{"-1", "1x", "99999999999999999999", " "} {
		if n := atoi(s); n < 1 || n > 2560 {
			t.Errorf("%q is %d", s, n)
		}
	}
	if a, b := cut("a\nb\nc", '\n'); a != "a" || b != "b\nc" {
		t.Errorf("%q %q", a, b)
	}
	if a, b := cut("abc", '\n'); a != "abc" || b != "" {
		t.Errorf("%q %q", a, b)
	}
	if trim(" \t\r\na b \n") != "a b" || trim("  ") != "" || !contains("xaby", "ab") || contains("xay", "ab") || !contains("ab", "ab") {
		t.Error("trim or contains")
	}
}
