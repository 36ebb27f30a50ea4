package api

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/kistdev/kist/internal/engine"
)

func TestWaitAnswersHeadersAtOnce(t *testing.T) {
	f := &fake{wait: make(chan container.WaitResponse, 1)}
	conn, err := net.Dial("unix", listen(t, f))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /v1.41/containers/x/wait HTTP/1.1\r\nHost: d\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil) // Would hang if the headers waited for the exit.
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	f.wait <- container.WaitResponse{StatusCode: 7}
	var got container.WaitResponse
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.StatusCode != 7 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAttachGivesTheConnectionAway(t *testing.T) {
	for _, upgrade := range []bool{true, false} {
		streams := make(chan engine.Stream, 1)
		f := &fake{attach: func(o engine.AttachOptions) error {
			s, err := o.Hijack(false)
			streams <- s
			return err
		}}
		conn, err := net.Dial("unix", listen(t, f))
		if err != nil {
			t.Fatal(err)
		}
		head, want := "", 200
		if upgrade {
			head, want = "Connection: Upgrade\r\nUpgrade: tcp\r\n", 101
		}
		fmt.Fprintf(conn, "POST /v1.42/containers/x/attach?stdin=1&stream=1 HTTP/1.1\r\nHost: d\r\n%s\r\nearly", head)
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != want || resp.Header.Get("Content-Type") != multiplexedStream {
			t.Errorf("upgrade %v: %d %v", upgrade, resp.StatusCode, resp.Header)
		}
		s := <-streams
		if _, err := s.File.Write([]byte("out")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 3)
		if _, err := io.ReadFull(r, got); err != nil || string(got) != "out" {
			t.Errorf("read %q, %v", got, err)
		}
		rest := make([]byte, 16)
		early := string(s.Pending)
		if early == "" {
			n, _ := s.File.Read(rest)
			early = string(rest[:n])
		}
		if early != "early" {
			t.Errorf("what the client sent ahead: %q", early)
		}
		s.File.Close()
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("the connection stays open when its new owner closes it: %v", err)
		}
		conn.Close()
	}
}

// A body before the stream is none of it: dockerode repeats its query there, or sends one in no chunks.
func TestStreamBeginsAfterTheBody(t *testing.T) {
	for head, body := range map[string]string{
		"Content-Length: 15":         `{"stream":true}`,
		"Transfer-Encoding: chunked": "0\r\n\r\n",
		"Content-Length: 0":          "",
	} {
		streams := make(chan engine.Stream, 1)
		conn, err := net.Dial("unix", listen(t, &fake{attach: func(o engine.AttachOptions) error {
			s, err := o.Hijack(false)
			streams <- s
			return err
		}}))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /v1.42/containers/x/attach HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n%s\r\n\r\n%sfirst", head, body)
		if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
			t.Fatal(err)
		}
		s := <-streams
		if string(s.Pending) != "first" {
			t.Errorf("%s: the stream begins with %q", head, s.Pending)
		}
		_ = s.File.Close()
		_ = conn.Close()
	}
}

// A client may throw away what it reads together with the head of the answer: nothing comes before it has read that.
func TestOutputComesAfterTheHead(t *testing.T) {
	for _, agent := range []string{"docker-sdk-python/7", "kist/1"} {
		f := &fake{attach: func(o engine.AttachOptions) error {
			s, err := o.Hijack(false)
			if err == nil {
				_, err = s.File.WriteString("output")
				_ = s.File.Close()
			}
			return err
		}}
		conn, err := net.Dial("unix", listen(t, f))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /v1.41/containers/x/attach HTTP/1.1\r\nHost: d\r\nUser-Agent: %s\r\n\r\n", agent)
		first := make([]byte, 8192)
		if n, err := conn.Read(first[:1]); err != nil || n != 1 {
			t.Fatal(n, err)
		}
		time.Sleep(50 * time.Millisecond) // what could come has come
		n, err := conn.Read(first)
		if err != nil {
			t.Fatal(err)
		}
		if glued := strings.Contains(string(first[:n]), "output"); glued != (agent == "kist/1") {
			t.Errorf("%s: the head came with the output: %v: %q", agent, glued, first[:n])
		}
		conn.Close()
	}
}

func TestLogsOptions(t *testing.T) {
	var got engine.LogsOptions
	s := newServer(t, &fake{logs: func(o engine.LogsOptions) error {
		got = o
		w, err := o.Begin(true)
		if err == nil {
			_, err = io.WriteString(w, "line\n")
		}
		return err
	}})
	w := do(s, http.MethodGet, "/v1.41/containers/x/logs?stdout=1&tail=5&since=1700000000.5&timestamps=1", "")
	if w.Code != 200 || w.Body.String() != "line\n" {
		t.Fatalf("%d %q", w.Code, w.Body)
	}
	if !got.Stdout || got.Stderr || got.Tail != 5 || !got.Timestamps || got.Since.UnixNano() != 1700000000500000000 {
		t.Errorf("%+v", got)
	}
	for _, bad := range []string{"", "?stdout=1&since=yesterday"} {
		if w := do(s, http.MethodGet, "/containers/x/logs"+bad, ""); w.Code != 400 {
			t.Errorf("%q: %d %s", bad, w.Code, w.Body)
		}
	}
}
