package cli

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

func frame(stream byte, s string) string {
	h := []byte{stream, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(h[4:], uint32(len(s)))
	return string(h) + s
}

// fakeContainer is a container of a fake daemon: attach talks, start lets it go, wait tells its end.
type fakeContainer struct {
	d       *fakeDaemon
	started chan struct{}
	ended   chan struct{}
}

// container makes the daemon create containers called abc that talk as program does and exit with code.
func (d *fakeDaemon) container(code int, tty bool, program func(conn *bufio.ReadWriter)) *fakeContainer {
	c := &fakeContainer{d: d, started: make(chan struct{}), ended: make(chan struct{})}
	d.answer("POST /containers/create", 201, `{"Id":"abc","Warnings":["careful"]}`)
	d.on("POST /containers/abc/attach", func(w http.ResponseWriter, _ *http.Request) {
		conn, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			d.t.Error(err)
			return
		}
		defer conn.Close()
		kind := "multiplexed"
		if tty {
			kind = "raw"
		}
		fmt.Fprintf(buf, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.%s-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", kind)
		buf.Flush()
		<-c.started
		program(buf)
		buf.Flush()
		close(c.ended)
	})
	d.on("POST /containers/abc/wait", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		select {
		case <-c.ended:
		case <-r.Context().Done():
			return
		}
		fmt.Fprintf(w, `{"StatusCode":%d}`, code)
	})
	d.on("POST /containers/abc/start", func(w http.ResponseWriter, _ *http.Request) {
		// Who starts a container before attach and wait are there misses something.
		if len(d.seen("POST /containers/abc/attach")) != 1 || len(d.seen("POST /containers/abc/wait")) != 1 {
			d.t.Error("started before attach and wait")
		}
		w.WriteHeader(204)
		close(c.started)
	})
	return c
}

func TestRun(t *testing.T) {
	d := newFakeDaemon(t)
	d.container(7, false, func(conn *bufio.ReadWriter) {
		io.WriteString(conn, frame(1, "to stdout\n")+frame(2, "to stderr\n"))
	})
	r := d.kist("run", "busybox", "true")
	if r.code != 7 || r.out != "to stdout\n" || r.err != "warning: careful\nto stderr\n" {
		t.Errorf("%+v", r)
	}
	if q := d.seen("POST /containers/abc/wait")[0].query; q != "condition=next-exit" {
		t.Error(q)
	}
}

func TestRunWithInput(t *testing.T) {
	d := newFakeDaemon(t)
	d.container(0, false, func(conn *bufio.ReadWriter) {
		b, err := io.ReadAll(conn)
		io.WriteString(conn, frame(1, fmt.Sprint(string(b), err)))
	})
	r := d.kistWith(strings.NewReader("typed"), nil, "run", "-i", "--rm", "busybox", "cat")
	if r.code != 0 || r.out != "typed<nil>" {
		t.Errorf("%+v", r)
	}
	if q := d.seen("POST /containers/abc/wait")[0].query; q != "condition=removed" {
		t.Error(q)
	}
}

func TestRunPulls(t *testing.T) {
	d := newFakeDaemon(t)
	d.container(0, false, func(*bufio.ReadWriter) {})
	made := d.handlers["POST /containers/create"]
	d.on("POST /containers/create", func(w http.ResponseWriter, r *http.Request) {
		if len(d.seen("POST /images/create")) == 0 {
			w.WriteHeader(404)
			io.WriteString(w, `{"message":"No such image: web:latest"}`)
			return
		}
		made(w, r)
	})
	d.answer("POST /images/create", 200, `{"status":"Pulling from library/web","id":"latest"}
{"status":"Downloading","id":"l1","progressDetail":{"current":5,"total":10}}
{"status":"Downloading","id":"l1","progressDetail":{"current":10,"total":10}}
{"status":"Pull complete","id":"l1"}
`)
	r := d.kist("run", "web")
	if r.code != 0 || r.out != "" {
		t.Errorf("%+v", r)
	}
	want := "Pulling web ...\nlatest: Pulling from library/web\nl1: Downloading\nl1: Pull complete\nPulled 1 layer, 10B in "
	if !strings.HasPrefix(r.err, want) {
		t.Errorf("%q", r.err)
	}
	if p := d.seen("POST /images/create"); len(p) != 1 || p[0].query != "fromImage=web&tag=latest" || p[0].header.Get("X-Registry-Auth") == "" {
		t.Errorf("%+v", p)
	}
	d.reset()
	if r := d.kist("run", "--pull", "never", "web"); r.code != 125 || len(d.seen("POST /images/create")) != 0 || !strings.Contains(r.err, "No such image") {
		t.Errorf("%+v", r)
	}
}

func TestPullFails(t *testing.T) {
	d := newFakeDaemon(t)
	d.answer("POST /images/create", 200, `{"status":"Pulling from library/web","id":"latest"}
{"errorDetail":{"message":"no: why (try: this)","what":"no","cause":"why","try":"this","fault":"x"},"error":"no"}
`)
	if r := d.kist("pull", "web"); r.code != 1 || !strings.HasSuffix(r.err, "error: no [x]\ncause: why\ntry:   this\n") {
		t.Errorf("%+v", r)
	}
}

func TestRunCannotStart(t *testing.T) {
	for _, tc := range []struct {
		message string
		code    int
	}{
		{`exec: \"x\": executable file not found in $PATH`, 127},
		{`exec: \"/x\": permission denied`, 126},
		{"port is taken", 125},
	} {
		d := newFakeDaemon(t)
		c := d.container(0, false, func(*bufio.ReadWriter) {})
		d.answer("POST /containers/abc/start", 400, `{"message":"`+tc.message+`"}`)
		if r := d.kist("run", "busybox"); r.code != tc.code || !strings.Contains(r.err, "error: ") {
			t.Errorf("%s: %+v", tc.message, r)
		}
		close(c.started) // lets the fake attach end
	}
}

func TestRunRefuses(t *testing.T) {
	d := newFakeDaemon(t)
	for _, tc := range []struct {
		args string
		want string
	}{
		{"--rm --restart always x", "cannot specify both --restart and --rm"},
		{"--no-healthcheck --health-cmd x x", "--no-healthcheck conflicts"},
		{"-p 1:2:3:4 x", "invalid IP address: 1:2"},
		{"-p 10-12:20-21 x", "invalid ranges specified"},
		{"-p 80/icmp x", "invalid proto: icmp"},
		{"--expose 1:2 x", "invalid port format for --expose"},
		{"-v a:b:c:d x", "too many colons"},
		{"--mount type=bind,src=/a x", "target is required"},
		{"--mount type=tmpfs,dst=/a,volume-nocopy x", "cannot mix 'volume-*'"},
		{"--network a --network host x", "cannot attach both user-defined"},
		{"--network a --network a x", "specified multiple times"},
		{"--memory-swappiness 101 x", "0-100"},
		{"--security-opt seccomp=/nonexistent x", "opening seccomp profile"},
		{"--log-driver none --log-opt a=b x", "invalid logging opts for driver none"},
		{"--device a:b:c:d x", "invalid device specification"},
		{"--add-host x x", "bad format for add-host"},
		{"--pid other x", "--pid: invalid PID mode"},
		{"--kernel-memory 1g x", "--kernel-memory is not served"},
		{"--cpu-count 1 x", "Windows"},
		{"--use-api-socket x", "not served"},
		{"--env-file /nonexistent x", "no such file"},
		{"--pull sometimes x", "invalid pull option"},
		{"--naem a x", "did you mean --name?"},
		{"--ulimit nofile=2:1 x", "soft limit"},
	} {
		r := d.kist(append([]string{"run"}, strings.Fields(tc.args)...)...)
		if r.code != 125 || !strings.Contains(r.err, tc.want) || r.out != "" {
			t.Errorf("%s: %+v", tc.args, r)
		}
	}
	for _, tc := range []struct{ args, want string }{
		{"-d -a stdout x", "cannot specify both --attach and --detach"},
		{"-it x", "the input device is not a TTY"},
	} {
		r := d.kist(append([]string{"run"}, strings.Fields(tc.args)...)...)
		if r.code != 1 || !strings.Contains(r.err, tc.want) || r.out != "" {
			t.Errorf("%s: %+v", tc.args, r)
		}
	}
	if n := len(d.seen("POST /containers/create")); n != 0 {
		t.Errorf("%d containers were created", n)
	}
}

func TestCIDFile(t *testing.T) {
	d := newFakeDaemon(t)
	d.answer("POST /containers/create", 201, `{"Id":"abc"}`)
	file := filepath.Join(t.TempDir(), "cid")
	if r := d.kist("create", "--cidfile", file, "x"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	if b, err := os.ReadFile(file); string(b) != "abc" {
		t.Errorf("%q %v", b, err)
	}
	if r := d.kist("create", "--cidfile", file, "x"); r.code != 125 || !strings.Contains(r.err, "container ID file found") {
		t.Errorf("%+v", r)
	}
	d.answer("POST /containers/create", 500, `{"message":"no"}`)
	other := file + "2"
	if r := d.kist("create", "--cidfile", other, "x"); r.code != 125 {
		t.Errorf("%+v", r)
	}
	if _, err := os.Stat(other); err == nil {
		t.Error("an empty file was left")
	}
}

// TestTerminal runs with a real terminal: its size goes into the request, what is typed arrives raw, and the keys detach.
func TestTerminal(t *testing.T) {
	d := newFakeDaemon(t)
	typed := make(chan string, 1)
	d.container(0, true, func(conn *bufio.ReadWriter) {
		io.WriteString(conn, "ready")
		conn.Flush()
		b := make([]byte, 2)
		io.ReadFull(conn, b)
		typed <- string(b)
		io.Copy(io.Discard, conn)
	})
	d.answer("POST /containers/abc/resize", 200, "")
	master, slave, err := pty.Open()
	if err != nil {
		t.Skip("no terminals on this machine: ", err)
	}
	defer master.Close()
	defer slave.Close()
	if err := pty.Setsize(slave, &pty.Winsize{Rows: 31, Cols: 97}); err != nil {
		t.Fatal(err)
	}
	a := &app{in: slave, out: slave, err: slave, getenv: func(string) string { return "" }}
	done := make(chan int, 1)
	go func() { done <- a.run([]string{"-H", d.host, "run", "-it", "--name", "n", "busybox", "sh"}) }()
	screen := make([]byte, 0, 100)
	for buf := make([]byte, 100); !strings.Contains(string(screen), "ready"); {
		n, err := master.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		screen = append(screen, buf[:n]...)
	}
	io.WriteString(master, "\x03x\x10\x11")
	select {
	case s := <-typed:
		if s != "\x03x" {
			t.Errorf("%q arrived", s)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing arrived")
	}
	if code := <-done; code != 0 {
		t.Errorf("exit code %d after detaching", code)
	}
	if c := decodeCreate(t, d.seen("POST /containers/create")[0]); c.HostConfig.ConsoleSize != [2]uint{31, 97} || !c.Tty {
		t.Errorf("%+v", c.HostConfig.ConsoleSize)
	}
}
