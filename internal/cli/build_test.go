package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kistdev/kist/internal/buildmsg"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/testbed/suite"
)

// project is a directory to build.
func project(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// builds makes the daemon answer builds with messages.
func (d *fakeDaemon) builds(messages ...buildmsg.Message) {
	d.on("POST /kist/build", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for i := range messages {
			_ = json.NewEncoder(w).Encode(&messages[i])
		}
	})
}

// request is the last build's.
func (d *fakeDaemon) request() buildmsg.Request {
	d.t.Helper()
	seen := d.seen("POST /kist/build")
	if len(seen) == 0 {
		d.t.Fatal("no build was asked for")
	}
	var r buildmsg.Request
	if err := json.Unmarshal(seen[len(seen)-1].body, &r); err != nil {
		d.t.Fatal(err)
	}
	return r
}

var builtApp = buildmsg.Message{Result: &buildmsg.Result{
	Ref: "ref", ID: "sha256:0123456789abcdef", Names: []string{"docker.io/library/app:1"}, Summary: "1 of 2 steps cached; step 2 ran because a changed",
	Exporter: map[string]string{"image.name": "app", "containerimage.descriptor": "eyJtZWRpYVR5cGUiOiJ4In0="},
}}

func TestBuildRequest(t *testing.T) {
	dir := project(t, map[string]string{"Dockerfile": "FROM scratch", "other/Dockerfile.dev": "FROM x", "secret": "s3cret", "more/f": "1"})
	t.Setenv("FROM_SHELL", "value")
	t.Setenv("TOKEN", "t0ken")
	t.Chdir(dir)
	d := newFakeDaemon(t)
	d.builds(builtApp)
	for _, tc := range []struct {
		name  string
		args  []string
		check func(r *buildmsg.Request) any
		want  any
	}{
		{"defaults", nil, func(r *buildmsg.Request) any {
			return []any{r.Context.Dir.Path, r.Context.Dir.Ino != 0, r.Dockerfile, r.DockerfileDir == nil, r.Outputs}
		}, []any{dir, true, "Dockerfile", true, []buildmsg.Output{{Type: "image"}}}},
		{"names", []string{"-t", "app:1", "-t", "reg:5000/app"}, func(r *buildmsg.Request) any { return r.Tags }, []string{"docker.io/library/app:1", "reg:5000/app:latest"}},
		{"file elsewhere", []string{"-f", "other/Dockerfile.dev"}, func(r *buildmsg.Request) any {
			return []any{r.Dockerfile, r.DockerfileDir.Path}
		}, []any{"Dockerfile.dev", filepath.Join(dir, "other")}},
		{"arguments", []string{"--build-arg", "A=1", "--build-arg", "FROM_SHELL", "--build-arg", "NOT_SET", "--build-arg", "EMPTY="}, func(r *buildmsg.Request) any { return r.Args }, map[string]string{"A": "1", "FROM_SHELL": "value", "EMPTY": ""}},
		{"secrets", []string{"--secret", "id=a,src=secret", "--secret", "id=TOKEN", "--secret", "id=b,env=TOKEN", "--secret", "type=env,id=c,src=TOKEN"}, func(r *buildmsg.Request) any { return r.Secrets }, map[string][]byte{"a": []byte("s3cret"), "TOKEN": []byte("t0ken"), "b": []byte("t0ken"), "c": []byte("t0ken")}},
		{"contexts", []string{"--build-context", "Lib=more", "--build-context", "base=docker-image://alpine"}, func(r *buildmsg.Request) any {
			return []any{r.Contexts["lib"].Dir.Path, r.Contexts["base"].Ref}
		}, []any{filepath.Join(dir, "more"), "docker-image://alpine"}},
		{"outputs", []string{"-o", "out", "-o", "type=oci,dest=x.tar,annotation.a=b", "-o", "type=registry,name=r/n", "-o", "type=cacheonly"}, func(r *buildmsg.Request) any { return r.Outputs }, []buildmsg.Output{
			{Type: "local", Path: filepath.Join(dir, "out")},
			{Type: "oci", Path: filepath.Join(dir, "x.tar"), Attrs: map[string]string{"annotation.a": "b"}},
			{Type: "image", Attrs: map[string]string{"name": "r/n", "push": "true"}},
		}},
		{"tar to standard output", []string{"-o", "-"}, func(r *buildmsg.Request) any { return r.Outputs }, []buildmsg.Output{{Type: "tar", ToClient: true}}},
		{"load beside a file", []string{"-o", "type=oci,dest=x.tar", "--load"}, func(r *buildmsg.Request) any { return len(r.Outputs) }, 2},
		{"push", []string{"-t", "reg:5000/app", "--push"}, func(r *buildmsg.Request) any { return r.Outputs[0].Attrs }, map[string]string{"push": "true"}},
		{"caches", []string{"--cache-from", "app:cache", "--cache-from", "type=local,src=c", "--cache-to", "type=inline"}, func(r *buildmsg.Request) any { return []any{r.CacheFrom, r.CacheTo} }, []any{
			[]buildmsg.Option{{Type: "registry", Attrs: map[string]string{"ref": "app:cache"}}, {Type: "local", Attrs: map[string]string{"src": filepath.Join(dir, "c")}}},
			[]buildmsg.Option{{Type: "inline"}},
		}},
		{"limits", []string{"--ulimit", "nofile=10:20", "--shm-size", "1m", "--cgroup-parent", "/x", "--network", "none", "--add-host", "h:1.2.3.4"}, func(r *buildmsg.Request) any {
			return []any{r.Ulimits, r.ShmSize, r.CgroupParent, r.Network, r.AddHosts}
		}, []any{[]string{"nofile=10:20"}, int64(1 << 20), "/x", "none", []string{"h:1.2.3.4"}}},
		{"choices", []string{"--target", "t", "--platform", "linux/amd64,linux/arm64", "--no-cache", "--no-cache-filter", "a,b", "--pull", "--allow", "network.host", "--label", "l=x"}, func(r *buildmsg.Request) any {
			return []any{r.Target, r.Platforms, r.NoCache, r.NoCacheFilter, r.Pull, r.Allow, r.Labels}
		}, []any{"t", []string{"linux/amd64", "linux/arm64"}, true, []string{"a", "b"}, true, []string{"network.host"}, map[string]string{"l": "x"}}},
		{"attestations", []string{"--provenance", "mode=max", "--attest", "type=sbom"}, func(r *buildmsg.Request) any { return r.Attests }, map[string]string{"provenance": "mode=max", "sbom": ""}},
		{"attestation off", []string{"--attest", "type=provenance,mode=max", "--provenance=false"}, func(r *buildmsg.Request) any { return len(r.Attests) }, 0},
		{"check", []string{"--check"}, func(r *buildmsg.Request) any { return []any{r.Call, len(r.Outputs)} }, []any{"frontend.lint", 0}},
		{"docker's idle flags", []string{"--rm", "--force-rm", "--memory", "1g"}, func(r *buildmsg.Request) any { return r.Target }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d.reset()
			d.kist(append(append([]string{"build", "-q"}, tc.args...), ".")...)
			r := d.request()
			for i := range r.Outputs {
				if len(r.Outputs[i].Attrs) == 0 {
					r.Outputs[i].Attrs = nil
				}
			}
			for i := range r.CacheTo {
				if len(r.CacheTo[i].Attrs) == 0 {
					r.CacheTo[i].Attrs = nil
				}
			}
			if diff := cmp.Diff(tc.want, tc.check(&r)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBuildFindsTheDockerfile(t *testing.T) {
	d := newFakeDaemon(t)
	d.builds(builtApp)
	for _, tc := range []struct {
		files map[string]string
		args  []string
		stdin string
		want  string // the Dockerfile, or what the error says
	}{
		{map[string]string{"Dockerfile": "", "Containerfile": ""}, nil, "", "Dockerfile"},
		{map[string]string{"Containerfile": ""}, nil, "", "Containerfile"},
		{map[string]string{"app.dockerfile": ""}, nil, "", "app.dockerfile"},
		{map[string]string{"x": ""}, nil, "", "there is no Dockerfile in"},
		{map[string]string{"Dockerfile.prod": ""}, []string{"-f", "Dockerfile.prd"}, "", "there is no file Dockerfile.prd"},
		{map[string]string{"sub/Dockerfile": ""}, []string{"-f", "sub/Dockerfile"}, "", "Dockerfile"},
		{map[string]string{"x": ""}, []string{"-f", "-"}, "FROM scratch", "FROM scratch"},
		{map[string]string{"x": ""}, []string{"-f", "-"}, "", "is empty"},
	} {
		d.reset()
		dir := project(t, tc.files)
		res := d.kistWith(strings.NewReader(tc.stdin), nil, append(append([]string{"build", "-q"}, tc.args...), dir)...)
		got := res.err
		if res.code == 0 {
			r := d.request()
			got = r.Dockerfile + string(r.Text)
		}
		if !strings.Contains(got, tc.want) {
			t.Errorf("%v %v: %q, want %q", tc.files, tc.args, got, tc.want)
		}
	}
}

func TestBuildFromStdin(t *testing.T) {
	d := newFakeDaemon(t)
	d.builds(builtApp)
	d.kistWith(strings.NewReader("FROM scratch\n"), nil, "build", "-q", "-")
	if r := d.request(); string(r.Text) != "FROM scratch\n" || !r.Context.Empty {
		t.Errorf("%+v", r)
	}
	var gz bytes.Buffer
	gz.WriteString("\x1f\x8b rest")
	d.kistWith(&gz, nil, "build", "-q", "-")
	if r := d.request(); r.Text != nil || !r.Context.Stream {
		t.Errorf("%+v", r)
	}
	d.kist("build", "-q", "https://example.test/repo.git#main:sub")
	if r := d.request(); r.Context.Ref != "https://example.test/repo.git#main:sub" {
		t.Errorf("%+v", r)
	}
	if res := d.kist("build", "nonexistent"); res.code != 1 || !strings.Contains(res.err, "there is no directory nonexistent") {
		t.Errorf("%+v", res)
	}
}

func TestBuildResult(t *testing.T) {
	dir := project(t, map[string]string{"Dockerfile": "FROM scratch"})
	d := newFakeDaemon(t)
	d.builds(builtApp)
	iid, meta := filepath.Join(dir, "iid"), filepath.Join(dir, "meta")
	res := d.kist("build", "--iidfile", iid, "--metadata-file", meta, dir)
	if res.code != 0 || !strings.Contains(res.err, "1 of 2 steps cached; step 2 ran because a changed\nBuilt app:1 (0123456789ab) in ") || res.out != "" {
		t.Errorf("%+v", res)
	}
	if raw, _ := os.ReadFile(iid); string(raw) != "sha256:0123456789abcdef" {
		t.Errorf("iidfile %q", raw)
	}
	var m map[string]any
	raw, _ := os.ReadFile(meta)
	if err := json.Unmarshal(raw, &m); err != nil || m["image.name"] != "app" || m["buildx.build.ref"] != "ref" {
		t.Errorf("metadata %s: %v", raw, err)
	}
	if o, ok := m["containerimage.descriptor"].(map[string]any); !ok || o["mediaType"] != "x" {
		t.Errorf("descriptor %v", m["containerimage.descriptor"])
	}
	if res := d.kist("build", "-q", dir); res.out != "sha256:0123456789abcdef\n" || res.err != "" {
		t.Errorf("quiet: %+v", res)
	}
	nameless := *builtApp.Result
	nameless.Names = nil
	d.builds(buildmsg.Message{Result: &nameless})
	if res := d.kist("build", dir); !strings.Contains(res.err, "It has no name. Give it one with -t NAME") {
		t.Errorf("nameless: %+v", res)
	}
	d.builds()
	if res := d.kist("build", dir); res.code != 1 || !strings.Contains(res.err, "the daemon ended before the build did") {
		t.Errorf("a daemon that dies: %+v", res)
	}
}

func TestBuildFailure(t *testing.T) {
	dir := project(t, map[string]string{"Dockerfile": "FROM scratch"})
	d := newFakeDaemon(t)
	d.builds(buildmsg.Message{Failure: &buildmsg.Failure{
		Parts: fault.Parts{Message: "process did not complete", Code: "build-step-failed", What: "step [2/2] RUN make failed", Cause: "exit code 2", Try: "look at its output"},
		Step:  "[2/2] RUN make", ExitCode: 2,
		Tail:   []byte("make: *** no\x1b[2J rule\n"),
		Places: []buildmsg.Place{{File: "Dockerfile", First: 1, Lines: []string{"FROM scratch", "RUN make"}, Marks: []buildmsg.Range{{Start: buildmsg.Position{Line: 2}, End: buildmsg.Position{Line: 2}}}}},
	}})
	const want = `Dockerfile:2
--------------------
   1 |     FROM scratch
   2 | >>> RUN make
--------------------
error: step [2/2] RUN make failed [build-step-failed]
cause: exit code 2
try:   look at its output
`
	if res := d.kist("build", dir); res.code != 1 || res.err != want {
		t.Errorf("plain: %s", cmp.Diff(want, res.err))
	}
	if res := d.kist("build", "-q", dir); res.err != "------\n > [2/2] RUN make:\nmake: *** no rule\n------\n"+want {
		t.Errorf("quiet: %s", res.err)
	}
}

func TestBuildSyntaxError(t *testing.T) {
	dir := project(t, map[string]string{"Dockerfile": "FROM scratch"})
	d := newFakeDaemon(t)
	d.builds(buildmsg.Message{Failure: &buildmsg.Failure{
		Parts: fault.Parts{Message: "dockerfile parse error on line 2: unknown instruction: RUM (did you mean RUN?)", Code: "build-dockerfile"},
		Places: []buildmsg.Place{{
			File: "Dockerfile", First: 1, Lines: []string{"FROM scratch", "\trum make"},
			Marks: []buildmsg.Range{{Start: buildmsg.Position{Line: 2}, End: buildmsg.Position{Line: 2}}},
		}},
	}})
	const want = `Dockerfile:2
--------------------
   1 |     FROM scratch
   2 | >>>     rum make
     |         ^^^
--------------------
error: dockerfile parse error on line 2: unknown instruction: RUM (did you mean RUN?) [build-dockerfile]
try:   correct that line
`
	if res := d.kist("build", dir); res.err != want {
		t.Error(cmp.Diff(want, res.err))
	}
}

func TestCheck(t *testing.T) {
	dir := project(t, map[string]string{"Dockerfile": "FROM scratch"})
	d := newFakeDaemon(t)
	result := func(raw, text string) {
		d.builds(buildmsg.Message{Result: &buildmsg.Result{Metadata: map[string][]byte{"result.json": []byte(raw), "result.txt": []byte(text)}}})
	}
	result(`{"warnings":[]}`, "")
	if res := d.kist("build", "--check", dir); res.code != 0 || res.out != "Check complete, no warnings found.\n" {
		t.Errorf("%+v", res)
	}
	result(`{"warnings":[{"ruleName":"StageNameCasing"}]}`, "\nWARNING: StageNameCasing\n")
	if res := d.kist("build", "--call", "check", dir); res.code != 1 || res.out != "Check complete, 1 warning has been found!\n\nWARNING: StageNameCasing\n" {
		t.Errorf("%+v", res)
	}
	if res := d.kist("build", "--call", "check,format=json", dir); res.code != 1 || !strings.HasPrefix(res.out, `{"warnings"`) {
		t.Errorf("%+v", res)
	}
	result(`{"warnings":[],"buildError":{"message":"no stage x"}}`, "")
	if res := d.kist("build", "--check", dir); res.code != 1 || !strings.Contains(res.err, "no stage x") {
		t.Errorf("%+v", res)
	}
	result(`{}`, "TARGET\napp\n")
	if res := d.kist("build", "--call", "targets", dir); res.code != 0 || res.out != "TARGET\napp\n" {
		t.Errorf("%+v", res)
	}
}

// scene is the progress of a build with a cached step, two that run at once, output in pieces, and a failing one.
func scene() []buildmsg.Message {
	t0 := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(ms int) *time.Time { t := t0.Add(time.Duration(ms) * time.Millisecond); return &t }
	v := func(d, name string, from, to int, cached bool, fail string) buildmsg.Vertex {
		x := buildmsg.Vertex{Digest: d, Name: name, Cached: cached, Error: fail}
		if from >= 0 {
			x.Started = at(from)
		}
		if to >= 0 {
			x.Completed = at(to)
		}
		return x
	}
	log := func(d string, ms int, text string) buildmsg.Log {
		return buildmsg.Log{Vertex: d, Stream: 1, Data: []byte(text), Timestamp: *at(ms)}
	}
	return []buildmsg.Message{
		{
			Vertexes: []buildmsg.Vertex{v("a", "[internal] load build definition from Dockerfile", 0, -1, false, "")},
			Statuses: []buildmsg.Status{{ID: "transferring dockerfile:", Vertex: "a", Current: 120, Timestamp: *at(1), Started: at(0)}},
		},
		{
			Statuses: []buildmsg.Status{{ID: "transferring dockerfile:", Vertex: "a", Current: 240, Timestamp: *at(20), Started: at(0), Completed: at(20)}},
			Vertexes: []buildmsg.Vertex{v("a", "[internal] load build definition from Dockerfile", 0, 20, false, "")},
		},
		{Vertexes: []buildmsg.Vertex{v("b", "[1/4] FROM base", 20, 20, true, ""), v("c", "[2/4] RUN one", 20, -1, false, ""), v("d", "[3/4] RUN two", 21, -1, false, "")}},
		{Logs: []buildmsg.Log{log("c", 120, "first line\nsecond "), log("d", 130, "of two\n")}},
		{Logs: []buildmsg.Log{log("c", 220, "line\n\x1b[31mred\x1b[0m\x1b[2K\n")}, Vertexes: []buildmsg.Vertex{v("d", "[3/4] RUN two", 21, 1021, false, "")}},
		{Logs: []buildmsg.Log{log("c", 320, "10%\r50%\r100%\nno end")}, Vertexes: []buildmsg.Vertex{v("c", "[2/4] RUN one", 20, 2020, false, "process \"one\" did not complete successfully: exit code: 1")}},
		{
			Vertexes: []buildmsg.Vertex{v("e", "[4/4] COPY x y", 2020, 2021, false, "context canceled")},
			Warnings: []buildmsg.Warning{{Vertex: "a", Short: []byte("MaintainerDeprecated: use a label (line 2)")}},
		},
	}
}

func TestPlainProgress(t *testing.T) {
	var out bytes.Buffer
	v := &buildView{w: &out, style: buildPlain, now: func() time.Time { return time.Time{} }, steps: map[string]*stepView{}}
	for _, m := range scene() {
		if err := v.show(&m, nil); err != nil {
			t.Fatal(err)
		}
	}
	v.warnings()
	suite.Golden(t, "build-plain.golden", out.String())
}

func TestLiveProgress(t *testing.T) {
	var out bytes.Buffer
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	v := &buildView{w: &out, style: buildLive, now: func() time.Time { now = now.Add(100 * time.Millisecond); return now }, steps: map[string]*stepView{}}
	v.live.size = func() (int, int) { return 10, 60 }
	for _, m := range scene() {
		if err := v.show(&m, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.drawLive(true); err != nil {
		t.Fatal(err)
	}
	suite.Golden(t, "build-live.golden", strings.ReplaceAll(out.String(), "\x1b", "ESC"))
}

func TestRawProgress(t *testing.T) {
	dir := project(t, map[string]string{"Dockerfile": "FROM scratch"})
	d := newFakeDaemon(t)
	s := scene()
	d.builds(append(s, builtApp)...)
	res := d.kist("build", "--progress", "rawjson", dir)
	if n := strings.Count(res.err, "\n"); n != len(s) {
		t.Errorf("%d lines of %d:\n%s", n, len(s), res.err)
	}
	for line := range strings.Lines(res.err) {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %s", line)
		}
	}
}

func FuzzOutput(f *testing.F) {
	f.Add("plain\n\x1b[31mred\x1b[0m\x1b]0;title\x07\n")
	f.Add("\x1b")
	f.Add("a\rb\r\n\x1b[")
	f.Fuzz(func(t *testing.T, s string) {
		got := cleanOutput(s)
		if strings.ContainsFunc(stripColour(got), func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			t.Errorf("%q leaves %q", s, got)
		}
		step := new(stepView)
		step.log(&buildmsg.Log{Data: []byte(s)})
		if n := strings.Count(s, "\n"); len(step.fresh) != n {
			t.Errorf("%q: %d lines, want %d", s, len(step.fresh), n)
		}
	})
}

func TestBuildCacheTables(t *testing.T) {
	d := newFakeDaemon(t)
	record := `{"ID":"abc","Type":"regular","Description":"RUN make","Size":2000000,"CreatedAt":"2026-01-02T03:04:05Z","UsageCount":2}`
	d.answer("GET /system/df", 200, fmt.Sprintf(`{"BuildCacheUsage":{"TotalCount":1,"TotalSize":2000000,"Reclaimable":2000000,"Items":[%s]}}`, record))
	d.answer("POST /build/prune", 200, `{"CachesDeleted":["abc"],"SpaceReclaimed":2000000}`)
	for _, cmd := range [][]string{{"builder", "du"}, {"buildx", "du"}} {
		if res := d.kist(cmd...); !strings.Contains(res.out, "abc") || !strings.Contains(res.out, "Total:\t\t2MB") {
			t.Errorf("%v: %+v", cmd, res)
		}
	}
	res := d.kist("builder", "prune", "-af", "--reserved-space", "1g", "--filter", "until=24h")
	if !strings.Contains(res.out, "Deleted build cache objects:\nabc\n\nTotal reclaimed space: 2MB") {
		t.Errorf("%+v", res)
	}
	if q := d.seen("POST /build/prune")[0].query; !strings.Contains(q, "all=1") || !strings.Contains(q, "reserved-space=1073741824") || !strings.Contains(q, "until") {
		t.Errorf("query %s", q)
	}
}
