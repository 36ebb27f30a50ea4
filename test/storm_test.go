package test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// burden is what a daemon holds.
type burden struct{ goroutines, descriptors, keeper int }

// burden counts, on a connection of its own, which is there each time.
func (c *apiClient) burden() burden {
	c.t.Helper()
	var info struct{ NGoroutines, NFd int }
	if err := json.Unmarshal([]byte(c.do("GET", "/info", "").body), &info); err != nil || info.NGoroutines == 0 {
		c.t.Fatalf("info: %+v, %v", info, err)
	}
	b := burden{goroutines: info.NGoroutines, descriptors: info.NFd}
	pids, err := c.host.Processes("kist", "keeper")
	if err != nil || len(pids) != 1 {
		c.t.Fatalf("the keeper: %v, %v", pids, err)
	}
	fds, err := os.ReadDir("/proc/" + strconv.Itoa(pids[0]) + "/fd")
	if err != nil {
		c.t.Fatal(err)
	}
	b.keeper = len(fds)
	return b
}

// sway is by how much the counts differ from one moment to the next: a timer's goroutine, a namespace that is kept ready.
const sway = 3

// settled waits until no more is held than before. What a hundred clients leave behind would be hundreds.
func (c *apiClient) settled(before burden) {
	c.t.Helper()
	var now burden
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		now = c.burden()
		if now.goroutines <= before.goroutines+sway && now.descriptors <= before.descriptors+sway && now.keeper <= before.keeper+sway {
			c.t.Logf("before %+v, after %+v", before, now)
			return
		}
	}
	c.t.Errorf("before %+v, and still %+v afterwards\n%s", before, now, c.do("GET", "/debug/pprof/goroutine?debug=1", "").body)
}

// vanishing is a request that a client begins and leaves.
type vanishing struct {
	head string // request line, or anything at all
	body string // the part of it that is sent
	// whole is the length that the head promises; 0 for none.
	whole int
	more  string // further header lines
}

// TestStorm has a hundred clients at once begin whatever streams, and go away in the middle; others send what is no HTTP, or no
// JSON, or too much. Afterwards the daemon holds no goroutine and no descriptor more than before, and has not panicked.
func TestStorm(t *testing.T) {
	c := newAPI(t, "--debug")
	const json = "Content-Type: application/json\r\n"
	exec := func() string {
		r := reply{body: []byte(c.do("POST", "/containers/up/exec", `{"Cmd":["sh","-c","while :; do echo x; sleep 0.01; done"],"AttachStdout":true,"AttachStdin":true}`).body)}
		return r.field("Id")
	}
	execs := make(chan string, 64)
	for range cap(execs) {
		execs <- exec()
	}
	kinds := []func() vanishing{
		func() vanishing { return vanishing{head: "GET /events"} },
		func() vanishing { return vanishing{head: "GET /v1.41/events?since=1"} },
		func() vanishing { return vanishing{head: "GET /containers/up/logs?follow=1&stdout=1"} },
		func() vanishing { return vanishing{head: "GET /containers/up/stats"} },
		func() vanishing { return vanishing{head: "POST /containers/up/wait?condition=next-exit"} },
		func() vanishing { return vanishing{head: "POST /v1.24/containers/up/wait"} },
		func() vanishing {
			return vanishing{head: "POST /containers/up/attach?stream=1&stdout=1", more: "Connection: Upgrade\r\nUpgrade: tcp\r\n"}
		},
		func() vanishing {
			return vanishing{head: "GET /containers/up/attach/ws?stream=1&stdout=1", more: "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://d\r\n"}
		},
		func() vanishing {
			return vanishing{head: "GET /containers/up/attach/ws?stream=1", more: "Connection: Upgrade\r\nUpgrade: websocket\r\n"}
		},
		func() vanishing {
			select {
			case id := <-execs:
				return vanishing{head: "POST /exec/" + id + "/start", more: json + "Connection: Upgrade\r\nUpgrade: tcp\r\n", body: "{}", whole: 2}
			default:
				return vanishing{head: "POST /containers/up/exec", more: json, body: `{"Cmd":["true"]}`, whole: 16}
			}
		},
		func() vanishing { return vanishing{head: "GET /containers/up/export"} },
		func() vanishing { return vanishing{head: "GET /images/" + busybox + "/get"} },
		func() vanishing { return vanishing{head: "GET /containers/up/archive?path=/bin"} },
		func() vanishing {
			return vanishing{head: "PUT /containers/up/archive?path=/tmp", body: strings.Repeat("x", 700), whole: 1 << 30}
		},
		func() vanishing {
			return vanishing{head: "PUT /containers/up/archive?path=/tmp", body: smallTar(t, "f", "text").String()[:600], whole: 1 << 30}
		},
		func() vanishing {
			return vanishing{head: "POST /images/load", body: smallTar(t, "manifest.json", "[]").String()[:512], whole: 1 << 30}
		},
		func() vanishing {
			return vanishing{head: "POST /build", more: "Content-Type: application/x-tar\r\n", body: smallTar(t, "Dockerfile", "FROM x").String()[:700], whole: 1 << 20}
		},
		func() vanishing {
			return vanishing{head: "POST /images/create?fromSrc=-", body: "no tar", whole: 1 << 20}
		},
		func() vanishing {
			return vanishing{head: "POST /containers/create", more: json, body: `{"Image":`, whole: 1 << 20}
		},
		func() vanishing {
			return vanishing{head: "POST /containers/create", more: json, body: strings.Repeat(`{"a":`, 20000), whole: 9 << 20}
		},
		func() vanishing {
			return vanishing{head: "POST /session", more: "Connection: Upgrade\r\nUpgrade: h2c\r\nX-Docker-Expose-Session-Uuid: " + strconv.Itoa(rand.Int()) + "\r\n"}
		},
		func() vanishing {
			return vanishing{head: "POST /grpc", more: "Connection: Upgrade\r\nUpgrade: h2c\r\n"}
		},
		func() vanishing { return vanishing{head: "\x16\x03\x01\x02\x00"} },
		func() vanishing { return vanishing{head: "GET " + strings.Repeat("/a", 1<<16)} },
		func() vanishing { return vanishing{head: "GET /_ping", more: strings.Repeat("A: b\r\n", 2000)} },
		func() vanishing { return vanishing{head: "GET /%zz/%00"} },
		func() vanishing { return vanishing{} },
	}
	for _, kind := range kinds { // What is made once is made by now.
		c.vanish(kind())
	}
	time.Sleep(time.Second)
	begin := time.Now()
	before := c.burden()
	var clients sync.WaitGroup
	for i := range 100 {
		clients.Go(func() {
			for j := range 12 {
				c.vanish(kinds[(i+7*j)%len(kinds)]())
			}
		})
	}
	clients.Wait()
	if a := c.do("GET", "/_ping", ""); a.body != "OK" {
		t.Errorf("ping: %+v", a)
	}
	// The execs go on as long as their container, as with docker.
	if a := c.do("POST", "/containers/up/restart?t=1", ""); a.status != 204 {
		t.Errorf("restart: %+v", a)
	}
	c.settled(before)
	t.Logf("1200 requests in %v", time.Since(begin).Round(time.Millisecond))
	if out := c.log(); strings.Contains(out, "panic") {
		t.Errorf("the daemon's log tells of a panic:\n%s", out)
	}
}

func (c *apiClient) log() string {
	raw, err := os.ReadFile(c.host.Dir + "/kistd.log")
	if err != nil {
		return ""
	}
	return string(raw)
}

// vanish sends a request, reads a little, and goes without a word.
func (c *apiClient) vanish(v vanishing) {
	conn, err := net.Dial("unix", c.host.Socket())
	if err != nil {
		c.t.Error(err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	head := v.head
	if head != "" {
		head += " HTTP/1.1\r\nHost: d\r\n" + v.more
		if v.whole > 0 {
			head += fmt.Sprintf("Content-Length: %d\r\n", v.whole)
		}
		head += "\r\n"
	}
	_, _ = io.WriteString(conn, head+v.body) // It may have been refused by now.
	if rand.IntN(3) > 0 {
		_ = conn.SetReadDeadline(time.Now().Add(time.Duration(rand.IntN(60)) * time.Millisecond))
		_, _ = conn.Read(make([]byte, 1+rand.IntN(4000)))
	}
}

// TestHundredAtOnce makes, starts, waits for and removes a hundred containers at once; the second hundred leaves no more behind
// than the first, for which network namespaces were kept ready.
func TestHundredAtOnce(t *testing.T) {
	c := newAPI(t)
	c.hundred()
	time.Sleep(time.Second) // The namespaces are being made.
	before := c.burden()
	begin := time.Now()
	c.hundred()
	t.Logf("100 containers in %v", time.Since(begin).Round(time.Millisecond))
	c.settled(before)
}

func (c *apiClient) hundred() {
	t := c.t
	var clients sync.WaitGroup
	call := func(method, path, body string, status int) []byte {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, method, "http://kist"+path, strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return nil
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := c.http.Do(req)
		if err != nil {
			t.Error(err)
			return nil
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != status {
			t.Errorf("%s %s: %d %s, %v", method, path, resp.StatusCode, raw, err)
		}
		return raw
	}
	for i := range 100 {
		clients.Go(func() {
			r := reply{body: call("POST", "/containers/create?name=n"+strconv.Itoa(i), `{"Image":"`+busybox+`","Cmd":["sh","-c","exit `+strconv.Itoa(i)+`"]}`, 201)}
			id := r.field("Id")
			call("POST", "/containers/"+id+"/start", "", 204)
			r.body = call("POST", "/containers/"+id+"/wait", "", 200)
			if code := r.field("StatusCode"); code != strconv.Itoa(i) {
				t.Errorf("exit code %s, want %d", code, i)
			}
			call("DELETE", "/containers/"+id, "", 204)
		})
	}
	clients.Wait()
}

// TestSlowReaders has clients that take nothing of what they asked for: nobody waits for them, but that a container waits for
// a client that is attached to its output, as with a pipe, until that goes.
func TestSlowReaders(t *testing.T) {
	c := newAPI(t)
	for name, path := range map[string]string{
		"logs": "GET /containers/%s/logs?stdout=1&follow=1", "attach": "POST /containers/%s/attach?stream=1&stdout=1", "events": "GET /events?since=1",
		"stats": "GET /containers/%s/stats",
	} {
		t.Run(name, func(t *testing.T) {
			// 8 MB: more than all buffers on the way hold together.
			made := reply{body: []byte(c.do("POST", "/containers/create", `{"Image":"`+busybox+`","Cmd":["sh","-c","head -c 6000000 /dev/zero | base64; echo done"],"HostConfig":{"LogConfig":{"Type":"json-file","Config":{"max-size":"1m"}}}}`).body)}
			id := made.field("Id")
			conn, err := net.Dial("unix", c.host.Socket())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if strings.Contains(path, "%s") {
				path = fmt.Sprintf(path, id)
			}
			begin := time.Now()
			if name == "attach" { // The others are of use when it runs.
				fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: d\r\n\r\n", path)
				time.Sleep(50 * time.Millisecond)
			}
			if a := c.do("POST", "/containers/"+id+"/start", ""); a.status != 204 {
				t.Fatal(a)
			}
			if name != "attach" {
				fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: d\r\n\r\n", path)
			}
			ended := false
			if name == "attach" {
				time.AfterFunc(time.Second, func() { _ = conn.Close() })
			}
			for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline) && !ended; time.Sleep(20 * time.Millisecond) {
				ask := time.Now()
				state := reply{body: []byte(c.do("GET", "/containers/"+id+"/json", "").body)}
				if d := time.Since(ask); d > 3*time.Second {
					t.Errorf("inspect took %v", d)
				}
				ended = state.field("State", "Running") == "false"
			}
			if !ended {
				t.Error("the container waits for a client that does not read")
			}
			t.Logf("ended after %v", time.Since(begin).Round(time.Millisecond))
			if name == "attach" && time.Since(begin) < time.Second {
				t.Error("the container did not wait for the client that is attached")
			}
			c.do("DELETE", "/containers/"+id+"?force=1", "")
		})
	}
}
