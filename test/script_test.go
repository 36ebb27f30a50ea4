// Package test runs scripts that a person can read against real daemons, each on a host of its own.
package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kistdev/kist/internal/testbed"
)

func TestMain(m *testing.M) {
	testbed.Main()
	os.Exit(m.Run())
}

// world is what one script runs in.
type world struct {
	t      testing.TB
	host   *testbed.Host
	daemon *testbed.Daemon
}

func TestScripts(t *testing.T) { runScripts(t, testscript.Params{Dir: "script", Setup: setup}) }

// TestScriptsWithoutFront runs those scripts again that are about run and exec, with the client doing all that the daemon does for
// it otherwise: a version of the API that somebody has named is not the daemon's to choose.
func TestScriptsWithoutFront(t *testing.T) {
	var files []string
	for _, name := range []string{"run", "exec", "entrypoints", "errors", "streams", "life", "crash-run"} {
		files = append(files, filepath.Join("script", name+".txtar"))
	}
	runScripts(t, testscript.Params{Files: files, Setup: func(env *testscript.Env) error {
		env.Setenv("DOCKER_API_VERSION", "1.56")
		return setup(env)
	}})
}

func runScripts(t *testing.T, p testscript.Params) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skip: the scripts need root")
	}
	if _, err := os.Stat(filepath.Join(testbed.Bin(), "kist")); err != nil {
		t.Skip("skip: bin/kist is not built; run make build")
	}
	p.RequireExplicitExec = true
	p.Condition = condition
	p.Cmds = map[string]func(*testscript.TestScript, bool, []string){
		"daemon":       daemon,
		"keeper":       keeper,
		"load":         load,
		"registry":     registry,
		"eventually":   eventually,
		"nothing-left": nothingLeft,
		"program":      compile,
	}
	testscript.Run(t, p)
}

type worldKey struct{}

func setup(env *testscript.Env) error {
	t, ok := env.T().(testing.TB)
	if !ok {
		return fmt.Errorf("testscript runs without testing: %T", env.T())
	}
	w := &world{t: t, host: testbed.NewHost(t)}
	env.Values[worldKey{}] = w
	bin := filepath.Join(env.WorkDir, ".bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		return err
	}
	for name, path := range programs() {
		script := fmt.Sprintf("#!/bin/sh\nexec nsenter %s -W \"$PWD\" -- %s \"$@\"\n", strings.Join(w.host.Enter(), " "), path)
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
			return err
		}
	}
	for _, kv := range w.host.Env() {
		key, value, _ := strings.Cut(kv, "=")
		if key != "HOME" {
			env.Setenv(key, value)
		}
	}
	env.Setenv("SOCKET", w.host.Socket())
	env.Setenv("PATH", bin+":"+env.Getenv("PATH"))
	env.Setenv("HOSTDIR", w.host.Dir)
	env.Setenv("CGROUP", w.host.Cgroup())
	return nil
}

// programs are those that scripts run inside their host.
func programs() map[string]string {
	all := map[string]string{"kist": filepath.Join(testbed.Bin(), "kist"), "kistd": filepath.Join(testbed.Bin(), "kistd")}
	for _, name := range []string{"docker", "curl", "ip", "nft", "ps"} {
		if path, err := exec.LookPath(name); err == nil {
			all[name] = path
		}
	}
	// Debian's docker command is older; the newest one has been built for the tests.
	if _, err := os.Stat("/usr/bin/docker"); err == nil {
		all["docker20"] = "/usr/bin/docker"
	}
	if path := testbed.Tool("docker"); path != "" {
		all["docker"] = path
	}
	if path := testbed.Tool("docker-compose"); path != "" {
		all["docker-compose"] = path
	}
	if path := filepath.Join(testbed.Bin(), "kist-compose"); isFile(path) {
		all["kist-compose"] = path
	}
	return all
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

func condition(name string) (bool, error) {
	program, ok := strings.CutPrefix(name, "has:")
	if !ok {
		return false, fmt.Errorf("unknown condition %q", name)
	}
	_, ok = programs()[program]
	if !ok {
		_, err := exec.LookPath(program)
		ok = err == nil
	}
	return ok || program == "buildx" && testbed.Tool("docker-buildx") != "", nil
}

func of(ts *testscript.TestScript) *world {
	w, ok := ts.Value(worldKey{}).(*world)
	if !ok {
		ts.Fatalf("no host")
	}
	return w
}

// daemon start|kill|stop [FLAG...]
func daemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: daemon start|kill|stop [flag...]")
	}
	w := of(ts)
	switch args[0] {
	case "start":
		w.daemon = w.host.StartDaemon(args[1:]...)
	case "kill":
		w.daemon.Kill()
	case "stop":
		w.daemon.Stop()
	default:
		ts.Fatalf("daemon %s?", args[0])
	}
}

// keeper kill ends the keeper as a crash would.
func keeper(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || args[0] != "kill" {
		ts.Fatalf("usage: keeper kill")
	}
	ts.Check(of(ts).host.KillKeeper())
}

// load IMAGE... loads made images into the host's daemon.
func load(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("unsupported: ! load")
	}
	w := of(ts)
	for _, name := range args {
		recipe, ok := testbed.Recipes()[name]
		if !ok {
			ts.Fatalf("no image %q", name)
		}
		if _, err := w.host.Try("kist", "load", "-q", "-i", recipe.MustArchive(w.t)); err != nil {
			ts.Fatalf("load %s: %v", name, err)
		}
	}
}

// compile is the command program: NAME FILE builds a program of the test bed's, without cgo.
func compile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: program NAME FILE")
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", ts.MkAbs(args[1]), "./internal/testbed/cmd/"+args[0])
	cmd.Dir, cmd.Env = testbed.Root(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		ts.Fatalf("build %s: %v\n%s", args[0], err, out)
	}
}

const registryConfig = `version: 0.1
storage:
  filesystem: {rootdirectory: %s}
  delete: {enabled: true}
http: {addr: 127.0.0.1:%s}
`

// registry PORT [HTPASSWD] starts Debian's docker-registry on the host's loopback, for everybody or for the users in a file.
func registry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: registry PORT [HTPASSWD]")
	}
	w := of(ts)
	path, err := exec.LookPath("docker-registry")
	if err != nil {
		w.t.Skip("skip: docker-registry is not installed")
	}
	file := filepath.Join(w.host.Dir, "registry.yml")
	config := fmt.Appendf(nil, registryConfig, filepath.Join(w.host.Dir, "registry"), args[0])
	if len(args) == 2 {
		config = fmt.Appendf(config, "auth: {htpasswd: {realm: chest, path: %s}}\n", ts.MkAbs(args[1]))
	}
	ts.Check(os.WriteFile(file, config, 0o600))
	cmd := w.host.Command(path, "serve", file)
	ts.Check(cmd.Start())
	w.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for range 500 {
		if _, err := w.host.Try("curl", "-s", "http://127.0.0.1:"+args[0]+"/v2/"); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("the registry does not answer on port %s", args[0])
}

// eventually REGEXP COMMAND... runs the command until its output matches, for at most 20 seconds. With ! until it does not.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: eventually REGEXP COMMAND...")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	w := of(ts)
	name := args[1]
	if path := programs()[name]; path != "" { // as exec takes it from the script's PATH
		name = path
	}
	var out []byte
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		cmd := w.host.Command(name, args[2:]...)
		cmd.Env = append(cmd.Env, "DOCKER_HOST="+ts.Getenv("DOCKER_HOST"))
		out, _ = cmd.CombinedOutput()
		if re.Match(out) != neg {
			return
		}
	}
	ts.Fatalf("%s: never as wanted (%s); last output:\n%s", strings.Join(args[1:], " "), args[0], out)
}

// nothing-left checks that no container has left anything behind: cgroups, mounts, veths, writable layers.
func nothingLeft(ts *testscript.TestScript, neg bool, _ []string) {
	w := of(ts)
	var found string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if found = leftovers(w.host); (found == "") != neg {
			return
		}
	}
	ts.Fatalf("left behind:\n%s", found)
}

func leftovers(h *testbed.Host) string {
	var found []string
	groups, _ := filepath.Glob("/sys/fs/cgroup/*" + h.Cgroup() + "/*")
	for _, g := range groups {
		if fi, err := os.Stat(g); err == nil && fi.IsDir() {
			found = append(found, "cgroup "+g)
		}
	}
	mounts, err := h.Try("cat", "/proc/self/mountinfo")
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(mounts) {
		if strings.Contains(line, h.Dir) || strings.Contains(line, filepath.Dir(h.Socket())) {
			found = append(found, "mount "+strings.TrimSpace(line))
		}
	}
	containers, _ := filepath.Glob(filepath.Join(h.Dir, "data", "containers", "*"))
	for _, c := range containers {
		found = append(found, "container "+c)
	}
	return strings.Join(found, "\n")
}
