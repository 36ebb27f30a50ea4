package test

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"

	"github.com/kistdev/kist/internal/testbed"
)

// frame reads one frame of a multiplexed stream.
func (p *prover) frame(r io.Reader) (stream byte, text string) {
	p.t.Helper()
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		p.t.Fatalf("read a frame: %v", err)
	}
	body := make([]byte, binary.BigEndian.Uint32(head[4:]))
	if _, err := io.ReadFull(r, body); err != nil {
		p.t.Fatalf("read a frame: %v", err)
	}
	return head[0], string(body)
}

// frames reads a multiplexed stream to its end.
func (p *prover) frames(r io.Reader) (out, errOut string) {
	p.t.Helper()
	var o, e bytes.Buffer
	if _, err := stdcopy.StdCopy(&o, &e, r); err != nil {
		p.t.Error(err)
	}
	return o.String(), e.String()
}

func smallTar(t testing.TB, name, text string) *bytes.Buffer {
	return bytes.NewBuffer(testbed.Tar(t, tar.Header{Name: name, Mode: 0o640, Linkname: text, Uid: 7, Gid: 8}))
}

// firstFile is the first file of a tar.
func (p *prover) firstFile(r io.Reader) (*tar.Header, string) {
	p.t.Helper()
	t := tar.NewReader(r)
	h, err := t.Next()
	if err != nil {
		p.t.Fatal(err)
	}
	raw, err := io.ReadAll(t)
	if err != nil {
		p.t.Fatal(err)
	}
	return h, string(raw)
}

// provenContainers are the operations on containers.
func provenContainers() map[string]func(*prover) {
	return map[string]func(*prover){
		"GET /containers/json": func(p *prover) {
			id := p.running(`"Cmd":["sleep","100"],"Labels":{"a":"b"},"ExposedPorts":{"80/tcp":{}},"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"0"}]},"Binds":["/tmp:/x"]}`)
			r := p.do("GET /containers/json", `/containers/json?size=1&filters={"id":["`+id+`"]}`, "", 200)
			p.equal("id", r.field("0", "Id"), id)
			p.equal("state", r.field("0", "State"), "running")
			p.equal("port", r.field("0", "Ports", "0", "PrivatePort"), "80")
			p.equal("mount", r.field("0", "Mounts", "0", "Destination"), "/x")
			p.do("GET /containers/json", `/containers/json?filters={"nosuch":["`+id+`"]}`, "", 400)
			p.do("GET /containers/json", `/containers/json?all=1&limit=2`, "", 200)
		},
		"POST /containers/create": func(p *prover) {
			p.create(`"Cmd":["true"],"Env":["A=b"],"HostConfig":{"Memory":67108864,"LogConfig":{"Type":"json-file","Config":{}}}`)
			p.do("POST /containers/create", "/containers/create", `{"Image":"nosuch"}`, 404)
			p.do("POST /containers/create", "/containers/create?name=up", `{"Image":"`+busybox+`"}`, 409)
			p.do("POST /containers/create", "/containers/create", `{`, 400)
		},
		"GET /containers/{id}/json": func(p *prover) {
			id := p.running(`"Cmd":["sleep","100"],"Healthcheck":{"Test":["CMD","true"]},"HostConfig":{"Memory":67108864,"Binds":["/tmp:/x"]}`)
			r := p.do("GET /containers/{id}/json", "/containers/"+id+"/json?size=1", "", 200)
			p.equal("state", r.field("State", "Status"), "running")
			p.equal("memory", r.field("HostConfig", "Memory"), "67108864")
			p.do("GET /containers/{id}/json", "/containers/nosuch/json", "", 404)
		},
		"GET /containers/{id}/top": func(p *prover) {
			r := p.do("GET /containers/{id}/top", "/containers/"+p.running("")+"/top?ps_args=aux", "", 200)
			p.equal("title", r.field("Titles", "1"), "PID")
			p.do("GET /containers/{id}/top", "/containers/nosuch/top", "", 404)
		},
		"GET /containers/{id}/logs": func(p *prover) {
			id := p.running(`"Cmd":["sh","-c","echo out; echo err >&2; sleep 100"]`)
			r := p.stream("GET /containers/{id}/logs", "/containers/"+id+"/logs?stdout=1&stderr=1&follow=1")
			got := map[byte]string{}
			for range 2 {
				stream, text := p.frame(r)
				got[stream] += text
			}
			p.equal("stdout", got[1], "out\n")
			p.equal("stderr", got[2], "err\n")
			p.do("GET /containers/{id}/logs", "/containers/"+id+"/logs?stdout=1&tail=1&since=1&timestamps=1", "", 200)
			tty := p.running(`"Tty":true,"Cmd":["sh","-c","echo out; sleep 100"]`)
			line, err := p.stream("GET /containers/{id}/logs", "/containers/"+tty+"/logs?stdout=1&follow=1").ReadString('\n')
			if err != nil || line != "out\r\n" {
				p.t.Errorf("log of a terminal: %q, %v", line, err)
			}
			p.do("GET /containers/{id}/logs", "/containers/nosuch/logs?stdout=1", "", 404)
		},
		"GET /containers/{id}/changes": func(p *prover) {
			id := p.create(`"Cmd":["touch","/made"]`)
			p.do("POST /containers/{id}/start", "/containers/"+id+"/start", "", 204)
			p.do("POST /containers/{id}/wait", "/containers/"+id+"/wait", "", 200)
			r := p.do("GET /containers/{id}/changes", "/containers/"+id+"/changes", "", 200)
			p.equal("path", r.field("0", "Path"), "/made")
			p.equal("kind", r.field("0", "Kind"), "1")
			p.do("GET /containers/{id}/changes", "/containers/nosuch/changes", "", 404)
		},
		"GET /containers/{id}/export": func(p *prover) {
			r := p.do("GET /containers/{id}/export", "/containers/"+p.create("")+"/export", "", 200)
			p.firstFile(bytes.NewReader(r.body))
			p.do("GET /containers/{id}/export", "/containers/nosuch/export", "", 404)
		},
		"GET /containers/{id}/stats": proveStats,
		"POST /containers/{id}/resize": func(p *prover) {
			id := p.running(`"Tty":true,"Cmd":["sleep","100"]`)
			p.do("POST /containers/{id}/resize", "/containers/"+id+"/resize?h=40&w=100", "", 200)
			p.do("POST /containers/{id}/resize", "/containers/"+id+"/resize?h=a&w=b", "", 400)
			p.do("POST /containers/{id}/resize", "/containers/nosuch/resize?h=4&w=4", "", 404)
		},
		"POST /containers/{id}/start": func(p *prover) {
			id := p.running("")
			p.do("POST /containers/{id}/start", "/containers/"+id+"/start", "", 304)
			p.do("POST /containers/{id}/start", "/containers/nosuch/start", "", 404)
			p.do("POST /containers/{id}/start", "/containers/"+id+"/start", `{"Memory":5}`, 400)
		},
		"POST /containers/{id}/stop": func(p *prover) {
			id := p.running("")
			p.do("POST /containers/{id}/stop", "/containers/"+id+"/stop?t=5", "", 204)
			p.do("POST /containers/{id}/stop", "/containers/"+id+"/stop", "", 304)
			p.do("POST /containers/{id}/stop", "/containers/nosuch/stop", "", 404)
		},
		"POST /containers/{id}/restart": func(p *prover) {
			p.do("POST /containers/{id}/restart", "/containers/"+p.running("")+"/restart?t=5", "", 204)
			p.do("POST /containers/{id}/restart", "/containers/nosuch/restart", "", 404)
		},
		"POST /containers/{id}/kill": func(p *prover) {
			id := p.running("")
			p.do("POST /containers/{id}/kill", "/containers/"+id+"/kill?signal=KILL", "", 204)
			p.do("POST /containers/{id}/wait", "/containers/"+id+"/wait", "", 200)
			p.do("POST /containers/{id}/kill", "/containers/nosuch/kill", "", 404)
			if p.since(38) {
				p.do("POST /containers/{id}/kill", "/containers/"+id+"/kill", "", 409)
			}
		},
		"POST /containers/{id}/update": func(p *prover) {
			id := p.running("")
			p.do("POST /containers/{id}/update", "/containers/"+id+"/update", `{"Memory":67108864,"MemorySwap":134217728,"RestartPolicy":{"Name":"always"}}`, 200)
			r := p.do("GET /containers/{id}/json", "/containers/"+id+"/json", "", 200)
			p.equal("memory", r.field("HostConfig", "Memory"), "67108864")
			p.do("POST /containers/{id}/update", "/containers/nosuch/update", "{}", 404)
		},
		"POST /containers/{id}/rename": func(p *prover) {
			id := p.create("")
			p.do("POST /containers/{id}/rename", "/containers/"+id+"/rename?name=renamed", "", 204)
			p.equal("name", p.do("GET /containers/{id}/json", "/containers/renamed/json", "", 200).field("Id"), id)
			p.do("POST /containers/{id}/rename", "/containers/"+id+"/rename?name=up", "", 409)
			p.do("POST /containers/{id}/rename", "/containers/nosuch/rename?name=x1", "", 404)
		},
		"POST /containers/{id}/pause":    provePause("pause"),
		"POST /containers/{id}/unpause":  provePause("unpause"),
		"POST /containers/{id}/attach":   proveAttach,
		"GET /containers/{id}/attach/ws": proveWebSocket,
		"POST /containers/{id}/wait": func(p *prover) {
			id := p.create(`"Cmd":["sh","-c","exit 7"]`)
			p.do("POST /containers/{id}/start", "/containers/"+id+"/start", "", 204)
			p.equal("code", p.do("POST /containers/{id}/wait", "/containers/"+id+"/wait", "", 200).field("StatusCode"), "7")
			p.do("POST /containers/{id}/wait", "/containers/nosuch/wait", "", 404)
			if p.since(30) {
				p.do("POST /containers/{id}/wait", "/containers/"+id+"/wait?condition=bored", "", 400)
			}
		},
		"DELETE /containers/{id}": func(p *prover) {
			id := p.running("")
			p.do("DELETE /containers/{id}", "/containers/nosuch", "", 404)
			p.do("DELETE /containers/{id}", "/containers/"+id+"?force=1&v=1", "", 204)
		},
		"HEAD /containers/{id}/archive": func(p *prover) {
			r := p.do("HEAD /containers/{id}/archive", "/containers/"+p.create("")+"/archive?path=/bin/busybox", "", 200)
			p.contains("stat", p.stat(r.header), `"name":"busybox"`)
			p.do("HEAD /containers/{id}/archive", "/containers/up/archive?path=/nosuch", "", 404)
			p.do("HEAD /containers/{id}/archive", "/containers/up/archive", "", 400)
		},
		"GET /containers/{id}/archive": func(p *prover) {
			r := p.do("GET /containers/{id}/archive", "/containers/up/archive?path=/etc/hostname", "", 200)
			if h, _ := p.firstFile(bytes.NewReader(r.body)); h.Name != "hostname" {
				p.t.Errorf("got %q", h.Name)
			}
			p.contains("stat", p.stat(r.header), `"name":"hostname"`)
			p.do("GET /containers/{id}/archive", "/containers/up/archive?path=/nosuch", "", 404)
			p.do("GET /containers/{id}/archive", "/containers/up/archive", "", 400)
		},
		"PUT /containers/{id}/archive": provePut,
		"POST /containers/prune": func(p *prover) {
			id := p.create(`"Labels":{"prune":"me"}`)
			r := p.do("POST /containers/prune", `/containers/prune?filters={"label":["prune=me"]}`, "", 200)
			p.equal("deleted", r.field("ContainersDeleted", "0"), id)
		},
		"POST /containers/{id}/exec": func(p *prover) {
			p.do("POST /containers/{id}/exec", "/containers/up/exec", `{"Cmd":["true"]}`, 201)
			p.do("POST /containers/{id}/exec", "/containers/nosuch/exec", `{"Cmd":["true"]}`, 404)
			id := p.running("")
			p.do("POST /containers/{id}/pause", "/containers/"+id+"/pause", "", 204)
			p.do("POST /containers/{id}/exec", "/containers/"+id+"/exec", `{"Cmd":["true"]}`, 409)
		},
		"POST /exec/{id}/start": func(p *prover) {
			for _, upgrade := range []string{"", "tcp"} {
				status := map[string]int{"": 200, "tcp": 101}[upgrade]
				x := p.exec(`"AttachStdin":true,"AttachStdout":true,"AttachStderr":true,"Cmd":["sh","-c","cat; echo err >&2"]`)
				c := p.take("POST /exec/{id}/start", "/exec/"+x+"/start", `{"Detach":false,"Tty":false}`, upgrade, status)
				if _, err := io.WriteString(c, "hello"); err != nil {
					p.t.Fatal(err)
				}
				if err := c.CloseWrite(); err != nil {
					p.t.Fatal(err)
				}
				out, errOut := p.frames(c.r)
				p.equal("out", out, "hello")
				p.equal("err", errOut, "err\n")
			}
			x := p.exec(`"Cmd":["true"]`)
			p.do("POST /exec/{id}/start", "/exec/"+x+"/start", `{"Detach":true}`, 200)
			p.do("POST /exec/{id}/start", "/exec/"+x+"/start", `{"Detach":true}`, 409)
			p.do("POST /exec/{id}/start", "/exec/nosuch/start", `{"Detach":true}`, 404)
		},
		"POST /exec/{id}/resize": func(p *prover) {
			x := p.exec(`"AttachStdout":true,"Tty":true,"Cmd":["sleep","100"]`)
			p.take("POST /exec/{id}/start", "/exec/"+x+"/start", `{"Tty":true}`, "tcp", 101)
			p.do("POST /exec/{id}/resize", "/exec/"+x+"/resize?h=4&w=5", "", 200)
			p.do("POST /exec/{id}/resize", "/exec/nosuch/resize?h=4&w=5", "", 404)
		},
		"GET /exec/{id}/json": func(p *prover) {
			x := p.exec(`"Tty":true,"Cmd":["sh","-c","exit 5"],"Env":["A=b"],"User":"1:2"`)
			p.do("POST /exec/{id}/start", "/exec/"+x+"/start", `{"Detach":true,"Tty":true}`, 200)
			var r *reply
			for range 100 {
				if r = p.do("GET /exec/{id}/json", "/exec/"+x+"/json", "", 200); r.field("Running") == "false" {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			p.equal("code", r.field("ExitCode"), "5")
			p.equal("user", r.field("ProcessConfig", "user"), "1:2")
			p.do("GET /exec/{id}/json", "/exec/nosuch/json", "", 404)
		},
		"POST /commit": func(p *prover) {
			r := p.do("POST /commit", "/commit?container=up&repo=kist.test/committed&tag=1&author=me&comment=why&changes=ENV+A=b", `{}`, 201)
			p.contains("id", r.field("Id"), "sha256:")
			i := p.do("GET /images/{name}/json", "/images/kist.test/committed:1/json", "", 200)
			p.equal("author", i.field("Author"), "me")
			p.do("DELETE /images/{name}", "/images/kist.test/committed:1", "", 200)
			p.do("POST /commit", "/commit?container=nosuch", `{}`, 404)
		},
	}
}

func (p *prover) exec(more string) string {
	p.t.Helper()
	return p.do("POST /containers/{id}/exec", "/containers/up/exec", "{"+more+"}", 201).field("Id")
}

func (p *prover) stat(h http.Header) string {
	p.t.Helper()
	raw, err := base64.StdEncoding.DecodeString(h.Get("X-Docker-Container-Path-Stat"))
	if err != nil {
		p.t.Error(err)
	}
	return string(raw)
}

func provePause(verb string) func(p *prover) {
	return func(p *prover) {
		id := p.running("")
		p.do("POST /containers/{id}/pause", "/containers/"+id+"/pause", "", 204)
		p.equal("paused", p.do("GET /containers/{id}/json", "/containers/"+id+"/json", "", 200).field("State", "Paused"), "true")
		p.do("POST /containers/{id}/unpause", "/containers/"+id+"/unpause", "", 204)
		p.do("POST /containers/{id}/"+verb, "/containers/nosuch/"+verb, "", 404)
	}
}

// proveStats checks what the docker command computes from.
func proveStats(p *prover) {
	id := p.running(`"Cmd":["sh","-c","while :; do :; done"],"HostConfig":{"NanoCpus":200000000,"Memory":67108864}`)
	check := func(raw []byte) {
		p.t.Helper()
		var s struct {
			Read, PreRead time.Time
			CPU           struct {
				Usage struct {
					Total uint64 `json:"total_usage"`
				} `json:"cpu_usage"`
				System uint64 `json:"system_cpu_usage"`
				Online int    `json:"online_cpus"`
			} `json:"cpu_stats"`
			Pre struct {
				Usage struct {
					Total uint64 `json:"total_usage"`
				} `json:"cpu_usage"`
				System uint64 `json:"system_cpu_usage"`
			} `json:"precpu_stats"`
			Memory struct {
				Usage, Limit uint64
				Stats        map[string]uint64
			} `json:"memory_stats"`
			Pids     struct{ Current int } `json:"pids_stats"`
			Networks map[string]map[string]uint64
		}
		if err := json.Unmarshal(raw, &s); err != nil {
			p.t.Fatal(err)
		}
		if s.CPU.Usage.Total <= s.Pre.Usage.Total || s.CPU.System <= s.Pre.System || s.Pre.System == 0 || s.CPU.Online < 1 ||
			s.Memory.Usage == 0 || s.Memory.Limit != 67108864 || s.Pids.Current != 1 || s.Networks["eth0"] == nil || !s.PreRead.Before(s.Read) {
			p.t.Errorf("%s", raw)
		}
	}
	if p.prefix == "" { // The same in all versions, and it takes its time.
		r := p.stream("GET /containers/{id}/stats", "/containers/"+id+"/stats")
		for i := range 2 {
			line, err := r.ReadBytes('\n')
			if err != nil {
				p.t.Fatal(err)
			}
			if i > 0 {
				check(line)
			}
		}
	}
	check(p.do("GET /containers/{id}/stats", "/containers/"+id+"/stats?stream=0", "", 200).body)
	begin := time.Now()
	p.do("GET /containers/{id}/stats", "/containers/"+id+"/stats?stream=0&one-shot=1", "", 200)
	if d := time.Since(begin); d > 900*time.Millisecond {
		p.t.Errorf("one sample took %v", d)
	}
	p.do("GET /containers/{id}/stats", "/containers/nosuch/stats?stream=0", "", 404)
	p.do("GET /containers/{id}/stats", "/containers/"+p.create("")+"/stats?stream=0&one-shot=1", "", 200)
}

// proveAttach attaches to containers with and without a terminal, upgraded and not, and half-closes.
func proveAttach(p *prover) {
	const op = "POST /containers/{id}/attach"
	const input = `"OpenStdin":true,"StdinOnce":true,"AttachStdin":true,"AttachStdout":true,"AttachStderr":true`
	for _, tc := range []struct {
		upgrade string
		status  int
		tty     bool
	}{{"", 200, false}, {"tcp", 101, false}, {"tcp", 101, true}, {"", 200, true}} {
		more, kind := input+`,"Cmd":["sh","-c","cat; echo end"]`, "application/vnd.docker.multiplexed-stream"
		if tc.tty {
			more, kind = input+`,"Tty":true,"Cmd":["sh","-c","read x; echo got $x"]`, "application/vnd.docker.raw-stream"
		}
		if !p.since(42) {
			kind = "application/vnd.docker.raw-stream"
		}
		id := p.create(more)
		c := p.take(op, "/containers/"+id+"/attach?stream=1&stdin=1&stdout=1&stderr=1", "", tc.upgrade, tc.status)
		p.equal("type", c.head.Header.Get("Content-Type"), kind)
		p.do("POST /containers/{id}/start", "/containers/"+id+"/start", "", 204)
		if _, err := io.WriteString(c, "hello\n"); err != nil {
			p.t.Fatal(err)
		}
		if tc.tty {
			raw, err := io.ReadAll(c.r)
			if err != nil || !strings.HasSuffix(string(raw), "got hello\r\n") {
				p.t.Errorf("terminal: %q, %v", raw, err)
			}
			continue
		}
		if err := c.CloseWrite(); err != nil { // What comes afterwards must still come.
			p.t.Fatal(err)
		}
		out, _ := p.frames(c.r)
		p.equal("what came", out, "hello\nend\n")
	}
	// Without stream and logs there is nothing to do.
	p.do(op, "/containers/nosuch/attach?stream=1", "", 404)
	p.do(op, "/containers/up/attach?stream=1&stdin=1&detachKeys=nokey", "", 400)
	// Detach keys leave the container running.
	id := p.create(input + `,"Tty":true,"Cmd":["cat"]`)
	c := p.take(op, "/containers/"+id+"/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,b", "", "tcp", 101)
	p.do("POST /containers/{id}/start", "/containers/"+id+"/start", "", 204)
	if _, err := io.WriteString(c, "\x01b"); err != nil {
		p.t.Fatal(err)
	}
	if _, err := io.ReadAll(c.r); err != nil {
		p.t.Errorf("after the detach keys: %v", err)
	}
	p.equal("after detaching", p.do("GET /containers/{id}/json", "/containers/"+id+"/json", "", 200).field("State", "Running"), "true")
}

// provePut unpacks archives: owners kept or not, a directory not replaced by a file.
func provePut(p *prover) {
	const op = "PUT /containers/{id}/archive"
	id := p.running(`"User":"5:6","Cmd":["sleep","100"]`)
	owner := func() int {
		r := p.do("GET /containers/{id}/archive", "/containers/"+id+"/archive?path=/tmp/f", "", 200)
		h, text := p.firstFile(bytes.NewReader(r.body))
		p.equal("content", text, "text")
		return h.Uid
	}
	p.send(op, "/containers/"+id+"/archive?path=/tmp", smallTar(p.t, "f", "text"), nil, 200)
	if got := owner(); got != 7 {
		p.t.Errorf("owner %d, want that of the archive", got)
	}
	p.send(op, "/containers/"+id+"/archive?path=/tmp&copyUIDGID=1", smallTar(p.t, "f", "text"), nil, 200)
	if got := owner(); got != 5 {
		p.t.Errorf("owner %d, want the container's", got)
	}
	p.send(op, "/containers/"+id+"/archive?path=/&noOverwriteDirNonDir=true", smallTar(p.t, "tmp", "text"), nil, 400)
	p.send(op, "/containers/"+id+"/archive?path=/nosuch", smallTar(p.t, "f", "text"), nil, 404)
	p.send(op, "/containers/"+id+"/archive", smallTar(p.t, "f", "text"), nil, 400)
	frozen := p.running(`"Cmd":["sleep","100"],"HostConfig":{"ReadonlyRootfs":true}`)
	p.send(op, "/containers/"+frozen+"/archive?path=/tmp", smallTar(p.t, "f", "text"), nil, 403)
}
