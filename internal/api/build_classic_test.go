package api

import (
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
)

const classicFile = `ARG V=1
FROM image:$V AS base
ENV A=1
RUN one
FROM scratch AS unused
COPY x /
FROM base
COPY --from=base /x \
  /y
RUN two
CMD ["x"]
`

func TestClassicPlan(t *testing.T) {
	p := planDockerfile(classicFile, "")
	var texts []string
	for _, s := range p.steps {
		texts = append(texts, s.text)
	}
	want := "ARG V=1|FROM image:$V AS base|ENV A=1|RUN one|FROM base|COPY --from=base /x   /y|RUN two|CMD [\"x\"]"
	if got := strings.Join(texts, "|"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, c := range []struct {
		stage        string
		index, total int
		want         int
	}{
		{"base", 1, 2, 1},
		{"base", 2, 2, 3},
		{"stage-2", 1, 2, 5},
		{"STAGE-2", 2, 2, 6},
		{"stage-2", 3, 2, -1},
		{"nosuch", 1, 1, -1},
		{"base", 2, 4, -1},
		{"base", 3, 4, -1},
		{"base", 4, 4, 3},
		{"base", 1, 4, 1}, // two triggers of ONBUILD
	} {
		if got := p.find(c.stage, c.index, c.total); got != c.want {
			t.Errorf("%s %d/%d: %d, want %d", c.stage, c.index, c.total, got, c.want)
		}
	}
	if p := planDockerfile(classicFile, "base"); len(p.steps) != 4 {
		t.Errorf("target: %+v", p.steps)
	}
	if planDockerfile("FROM x\nNONSENSE", "") != nil || planDockerfile("", "") != nil {
		t.Error("made a plan of nothing")
	}
}

// told is the text of a stream.
func told(t *testing.T, body string) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(body) {
		var m progressLine
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err, line)
		}
		b.WriteString(m.Stream)
	}
	return b.String()
}

func TestClassicView(t *testing.T) {
	now := time.Now()
	vertex := func(name string, started, completed, cached bool) *client.Vertex {
		v := &client.Vertex{Digest: digest.FromString(name), Name: name, Cached: cached}
		if started {
			v.Started = &now
		}
		if completed {
			v.Completed = &now
		}
		return v
	}
	log := func(name, text string) *client.VertexLog {
		return &client.VertexLog{Vertex: digest.FromString(name), Data: []byte(text)}
	}
	const one, two = "[base 2/2] RUN one", "[stage-2 2/2] RUN two"
	rec := httptest.NewRecorder()
	v := newClassicView(newProgress(rec), false, planDockerfile(classicFile, ""))
	v.status(&client.SolveStatus{Vertexes: []*client.Vertex{vertex("[base 1/2] FROM image:1", true, true, true), vertex("[internal] load", true, true, false)}})
	// The later one first: it waits for its turn. A character comes in two parts.
	v.status(&client.SolveStatus{Vertexes: []*client.Vertex{vertex(two, true, false, false)}, Logs: []*client.VertexLog{log(two, "second\n")}})
	v.status(&client.SolveStatus{Vertexes: []*client.Vertex{vertex(one, true, false, false)}, Logs: []*client.VertexLog{log(one, "fir\xc3")}})
	if got := told(t, rec.Body.String()); strings.Contains(got, "second") || !strings.HasSuffix(got, "Step 4/8 : RUN one\nfir") {
		t.Errorf("%q", got)
	}
	v.status(&client.SolveStatus{Logs: []*client.VertexLog{log(one, "\xa9st\n")}, Vertexes: []*client.Vertex{vertex(one, true, true, false)}})
	v.status(&client.SolveStatus{Vertexes: []*client.Vertex{vertex("[stage-2 1/2] COPY", true, true, true)}})
	v.finish(errors.New("failed"))
	want := "Step 1/8 : ARG V=1\nStep 2/8 : FROM image:$V AS base\n ---> Using cache\nStep 3/8 : ENV A=1\nStep 4/8 : RUN one\nfir\u00e9st\n" +
		"Step 5/8 : FROM base\nStep 6/8 : COPY --from=base /x   /y\n ---> Using cache\nStep 7/8 : RUN two\nsecond\n"
	if got := told(t, rec.Body.String()); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Without the Dockerfile at hand, steps are shown as they come.
func TestClassicViewWithoutPlan(t *testing.T) {
	now := time.Now()
	rec := httptest.NewRecorder()
	v := newClassicView(newProgress(rec), false, nil)
	for _, name := range []string{"[1/2] FROM x", "[linux/amd64 build  2/12] RUN y"} {
		v.status(&client.SolveStatus{Vertexes: []*client.Vertex{{Digest: digest.FromString(name), Name: name, Started: &now, Completed: &now}}})
	}
	v.finish(nil)
	if got := told(t, rec.Body.String()); got != "Step 1/1 : FROM x\nStep 2/2 : RUN y\n" {
		t.Errorf("%q", got)
	}
}

func TestClassicParameters(t *testing.T) {
	s := New(Config{})
	read := func(query, config string) (*classicBuild, error) {
		r := httptest.NewRequest("POST", "/build?"+query, nil)
		r.Header.Set("X-Registry-Config", config)
		return s.readClassic(&request{r, newest})
	}
	b, err := read(`t=a&t=b:1&buildargs={"A":"1","N":null}&labels={"l":"v"}&extrahosts=x:1.2.3.4,y=::1&shmsize=64&ulimits=[{"Name":"nofile","Soft":1,"Hard":2}]&cachefrom=["c"]&nocache=1&pull=true&q=1&platform=linux/arm64&memory=0&networkmode=none`,
		"eyJodHRwczovL2luZGV4LmRvY2tlci5pby92MS8iOnsidXNlcm5hbWUiOiJ1In19")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(b.Tags, " ") != "a:latest b:1" || len(b.Args) != 1 || b.Args["A"] != "1" || b.Labels["l"] != "v" || len(b.AddHosts) != 2 ||
		b.ShmSize != 64 || b.Ulimits[0] != "nofile=1:2" || b.CacheFrom[0].Attrs["ref"] != "c" || !b.NoCache || !b.Pull || !b.quiet ||
		b.Platforms[0] != "linux/arm64" || len(b.warnings) != 0 || b.auth["registry-1.docker.io"].Username != "u" {
		t.Errorf("%+v", b)
	}
	for _, query := range []string{
		"t=UPPER", "t=a@sha256:" + strings.Repeat("0", 64), "buildargs=x", "labels=[]", "shmsize=x", "squash=1", "version=3", "outputs=[]x", "networkmode=container:x",
		"isolation=hyperv", `securityopt=["a"]`, "ulimits={}", "ulimits=[null]",
	} {
		if _, err := read(query, ""); err == nil {
			t.Errorf("%s: taken", query)
		}
	}
	if b, err := read("cpuquota=1&memory=5", "no base64"); err != nil || len(b.warnings) != 1 || b.auth != nil {
		t.Errorf("%+v, %v", b, err)
	}
}

// Odd Dockerfiles and names of steps lead nowhere, but not astray.
func TestClassicOdd(t *testing.T) {
	for _, c := range []struct{ text, target, name string }{
		{"FROM a\nRUN <<E\nx\nE\n", "", "[1/2] FROM a"},
		{"FROM a AS b\nFROM b AS a\nCOPY --from=9 x y", "9", "[linux/amd64 9 1/1] COPY"},
		{"FROM b AS b\nCOPY --from=b x y\n", "b", "[b 99999999999999999999/1] x"},
		{"FROM a\n", "nosuch", "[ 0/0] x"},
		{"", "", "[a 1/1] b"},
	} {
		rec := httptest.NewRecorder()
		v := newClassicView(newProgress(rec), false, planDockerfile(c.text, c.target))
		v.status(&client.SolveStatus{Vertexes: []*client.Vertex{{Digest: digest.FromString(c.name), Name: c.name}}})
		v.finish(nil)
		if c.text != "" && !strings.HasPrefix(told(t, rec.Body.String()), "Step 1/") {
			t.Errorf("%q: %s", c.text, rec.Body)
		}
	}
}
