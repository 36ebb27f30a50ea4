package test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kistdev/kist/internal/testbed"
)

// recipe is one Dockerfile of testdata/dockerfiles and what must come of it.
type recipe struct {
	name string
	base []testbed.Recipe
	// build are further arguments of the build command; {mirror} stands for the mirror's address.
	build []string
	// before is the Dockerfile of an image called platform that this one stands on.
	before string
	// run are arguments of run, and says what the container prints.
	run  []string
	says string
	// newer says what Docker 20.10 cannot read in it.
	newer string
	// points are mount points that Docker 20.10 leaves in the image, and later ones do not.
	points []string
	setup  func(*testing.T, *testbed.Host) []string
}

var recipes = []recipe{
	{
		name: "go", base: []testbed.Recipe{testbed.Golang}, says: "hello from 1.2.3 4a63a3ed-c1d1-5183-95b9-8491ccc69182",
		build: []string{"--build-arg", "GOPROXY=http://{mirror}/go", "--build-arg", "VERSION=1.2.3"},
	},
	{
		name: "python", base: []testbed.Recipe{testbed.Pip}, says: "hello, uid 1000",
		points: []string{"root/.cache", "root/.cache/pip", "wheels"},
	},
	{
		name: "node", base: []testbed.Recipe{testbed.Node}, says: "42 is a number",
		build: []string{"--build-arg", "NPM_REGISTRY=http://{mirror}/npm"},
	},
	{
		name: "c", base: []testbed.Recipe{testbed.Debian, testbed.Busybox}, says: "hello from C",
		build: []string{"--build-arg", "MIRROR=http://{mirror}"},
	},
	{name: "heredoc", base: []testbed.Recipe{testbed.Busybox}, says: "greeting=hello, world\ngreeting=hello, ${WHO}", newer: "heredocs"},
	{
		name: "secret", base: []testbed.Recipe{testbed.Busybox}, says: "400 33\n13\n13 letters\nmachine", newer: "secrets in the environment",
		setup: func(t *testing.T, h *testbed.Host) []string {
			for name, text := range map[string]string{"token": "s3cr3t-t0k3n!", "netrc": "machine example.test"} {
				if err := os.WriteFile(filepath.Join(h.Dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			return []string{"--secret", "id=token,src=" + filepath.Join(h.Dir, "token"), "--secret", "id=config,src=" + filepath.Join(h.Dir, "netrc")}
		},
	},
	{name: "ssh", base: []testbed.Recipe{testbed.Busybox}, says: "600 0", setup: sshAgents, points: []string{"run", "run/buildkit"}},
	{name: "cross", base: []testbed.Recipe{testbed.Golang}, says: "hello from linux amd64"},
	{
		name: "monorepo", base: []testbed.Recipe{testbed.Busybox}, newer: "COPY --parents",
		says: "./package.json\n./packages/api/package.json\n./packages/tools/cli/package.json\n./packages/web/package.json\n" +
			"packages/api/src/main.txt\npackages/tools/cli/src/main.txt\npackages/web/src/main.txt",
	},
	{
		name: "onbuild", base: []testbed.Recipe{testbed.Busybox}, before: "Dockerfile.platform",
		build: []string{"--build-arg", "SETTING=asked"}, says: "built with asked\nbuilt\nindex.html\nlist",
	},
	{name: "healthcheck", base: []testbed.Recipe{testbed.Busybox}, run: []string{"--entrypoint", "cat"}, says: "hello there"},
	{name: "sixty", base: []testbed.Recipe{testbed.Busybox}, run: []string{"--entrypoint", "cat"}, says: "last"},
}

// command are the words that a container of the recipe is run with.
func (r recipe) command() []string {
	switch r.name {
	case "healthcheck":
		return []string{"/var/www/index.html"}
	case "sixty":
		return []string{"/last"}
	}
	return nil
}

// TestDockerfiles builds each of the Dockerfiles with kist, and by the docker command on kist's socket, runs what came of
// it, and compares its files and its configuration with what Docker itself makes of it.
func TestDockerfiles(t *testing.T) {
	if testing.Short() {
		t.Skip("skip: -short")
	}
	kist := newBuilder(t, "kist")
	docker := newDockerd(t)
	for _, r := range recipes {
		t.Run(r.name, func(t *testing.T) {
			if err := kist.lacks[r.name]; err != nil {
				t.Skipf("skip: %v", err)
			}
			image := kist.build(t, r)
			if got := kist.run(t, r, image); got != r.says {
				t.Errorf("the container says\n%s\nwant\n%s", got, r.says)
			}
			mine := kist.save(t, image)
			again := kist.build(t, r)
			if a, b := kist.id(t, again), mine.id; a != b {
				t.Errorf("built again it is %s, before it was %s", a, b)
			}
			if docker == nil || r.newer != "" {
				t.Logf("not compared with Docker: %s", first(r.newer, "dockerd is not installed"))
				return
			}
			theirs := docker.save(t, docker.build(t, r))
			for _, p := range r.points {
				delete(theirs.files, p)
			}
			if diff := cmp.Diff(theirs.files, mine.files); diff != "" {
				t.Errorf("files (-docker +kist):\n%s", diff)
			}
			if diff := cmp.Diff(theirs.config, mine.config); diff != "" {
				t.Errorf("configuration (-docker +kist):\n%s", diff)
			}
		})
	}
}

// builder is a host with an engine and a mirror of package registries, and a command that builds there.
type builder struct {
	host    *testbed.Host
	program string
	env     []string
	mirror  string           // address as containers know it
	addHost string           // value of --add-host
	lacks   map[string]error // by recipe
	loaded  map[string]bool
}

func newBuilder(t *testing.T, program string) *builder {
	t.Helper()
	h := testbed.NewHost(t)
	h.StartDaemon()
	b := &builder{host: h, program: program, addHost: "mirror:host-gateway", loaded: map[string]bool{}}
	b.serveMirror(t)
	return b
}

func (b *builder) serveMirror(t *testing.T) {
	t.Helper()
	answers, lacks := mirror(t)
	b.mirror, b.lacks = "mirror:"+serve(t, b.host, answers), lacks
}

// newDockerd is Debian's Docker; nil where there is none.
func newDockerd(t *testing.T) *builder {
	t.Helper()
	if _, err := exec.LookPath("dockerd"); err != nil {
		return nil
	}
	h := testbed.NewHost(t)
	sock := filepath.Join(h.Dir, "docker.sock")
	log, err := os.Create(filepath.Join(h.Dir, "dockerd.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := h.Command("dockerd", "--data-root", filepath.Join(h.Dir, "docker-data"), "--exec-root", filepath.Join(h.Dir, "docker-exec"),
		"-H", "unix://"+sock, "--pidfile", filepath.Join(h.Dir, "docker.pid"), "--cgroup-parent", h.Cgroup())
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if pid, err := os.ReadFile(filepath.Join(h.Dir, "docker.pid")); err == nil {
			_, _ = h.Try("kill", strings.TrimSpace(string(pid)))
		}
		timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		timer.Stop()
	})
	b := &builder{host: h, program: "/usr/bin/docker", env: []string{"DOCKER_HOST=unix://" + sock, "DOCKER_BUILDKIT=1"}, loaded: map[string]bool{}}
	for range 600 {
		if _, err := b.try("version"); err == nil {
			b.addHost = "mirror:172.17.0.1"
			b.serveMirror(t)
			return b
		}
		time.Sleep(50 * time.Millisecond)
	}
	raw, _ := os.ReadFile(log.Name())
	t.Logf("dockerd does not answer: %s", raw[max(0, len(raw)-500):])
	return nil
}

func (b *builder) try(args ...string) (string, error) {
	return b.host.Try("env", append(append(slices.Clone(b.env), b.program), args...)...)
}

func (b *builder) do(t *testing.T, args ...string) string {
	t.Helper()
	out, err := b.try(args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", b.program, strings.Join(args, " "), err, out)
	}
	return out
}

// build builds a recipe and returns the image's name.
func (b *builder) build(t *testing.T, r recipe) string {
	t.Helper()
	for _, base := range r.base {
		if !b.loaded[base.Name] {
			b.do(t, "load", "-q", "-i", base.MustArchive(t))
			b.loaded[base.Name] = true
		}
	}
	dir, err := filepath.Abs(filepath.Join("testdata", "dockerfiles", r.name))
	if err != nil {
		t.Fatal(err)
	}
	if r.before != "" {
		b.do(t, "build", "-q", "-t", "platform", "-f", filepath.Join(dir, r.before), dir)
	}
	image := "corpus/" + r.name
	args := []string{"build", "-q", "-t", image, "--add-host", b.addHost}
	for _, a := range r.build {
		args = append(args, strings.ReplaceAll(a, "{mirror}", b.mirror))
	}
	if r.setup != nil {
		args = append(args, r.setup(t, b.host)...)
	}
	b.do(t, append(args, dir)...)
	return image
}

func (b *builder) run(t *testing.T, r recipe, image string) string {
	t.Helper()
	args := append([]string{"run", "--rm", "--network", "none"}, r.run...)
	return b.do(t, append(append(args, image), r.command()...)...)
}

func (b *builder) id(t *testing.T, image string) string {
	t.Helper()
	return b.do(t, "image", "inspect", "-f", "{{.Id}}", image)
}

// save takes an image apart.
func (b *builder) save(t *testing.T, image string) *flat {
	t.Helper()
	file := filepath.Join(b.host.Dir, "saved.tar")
	b.do(t, "save", "-o", file, image)
	f, err := flatten(file)
	if err != nil {
		t.Fatal(err)
	}
	f.id = b.id(t, image)
	return f
}

// sshAgents starts two agents without keys: their sockets are what the builder forwards.
func sshAgents(t *testing.T, h *testbed.Host) []string {
	t.Helper()
	var args []string
	for _, name := range []string{"default", "deploy"} {
		sock := filepath.Join(h.Dir, "agent-"+name)
		if _, err := os.Stat(sock); err != nil {
			l, err := net.Listen("unix", sock)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
		}
		args = append(args, "--ssh", name+"="+sock)
	}
	return args
}

// serve answers the host's containers, and returns the port.
func serve(t *testing.T, h *testbed.Host, answers http.Handler) string {
	t.Helper()
	var l net.Listener
	err := h.Inside(func() (err error) {
		l, err = net.Listen("tcp", ":0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: answers, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() { _ = s.Serve(l); close(done) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func files(dir string) http.Handler { return http.FileServer(http.Dir(dir)) }

// mirror has Go modules, npm packages and Debian packages, and why those recipes cannot be built that need what is missing.
func mirror(t *testing.T) (h http.Handler, lacks map[string]error) {
	t.Helper()
	lacks = map[string]error{}
	mux := http.NewServeMux()
	serve := func(recipe, path string, dir string, err error) {
		if err != nil {
			lacks[recipe] = err
			return
		}
		mux.Handle(path, http.StripPrefix(path, files(dir)))
	}
	modules, err := goModules()
	serve("go", "/go/", modules, err)
	debs, err := testbed.Debs(t.Context(), "gcc", "libc6-dev")
	serve("c", "/debs/", debs, err)
	npm, err := testbed.NPM(t.Context(), "is-number@7.0.0")
	serve("node", "/npm/files/", npm, err)
	mux.HandleFunc("/npm/is-number", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"name": "is-number", "dist-tags": {"latest": "7.0.0"}, "versions": {"7.0.0": {"name": "is-number", "version": "7.0.0",
			"dist": {"tarball": "http://%s/npm/files/is-number-7.0.0.tgz"}}}}`, r.Host)
	})
	return mux, lacks
}

// goModules is where this machine keeps modules, laid out as a proxy serves them.
func goModules() (string, error) {
	out, err := exec.Command("go", "mod", "download", "-json", "github.com/google/uuid@v1.6.0").Output()
	if err != nil {
		return "", fmt.Errorf("no Go module to build with: %w", err)
	}
	var module struct{ Zip string }
	if err := json.Unmarshal(out, &module); err != nil {
		return "", err
	}
	// The file is five levels below: github.com/google/uuid/@v/v1.6.0.zip
	return filepath.Join(module.Zip, "../../../../.."), nil
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
