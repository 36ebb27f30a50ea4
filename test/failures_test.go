package test

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
)

// failure is one that a user runs into, made for real. The first line that kist writes about it must name the cause.
type failure struct {
	name string
	// args are kist's. With run, that is what fails.
	args []string
	run  func(m *failing) (stderr string, code int)
	// before makes the failure possible, after clears it away.
	before, after func(m *failing)
	exit          int
	code          string
	// slow ones are asked several times before kist gives up: they happen beside each other, before the rest.
	slow bool
	// first is what the first line says: the cause, not only that it failed. says is what stands somewhere: the evidence.
	first, says string
}

// failing is the machine that all failures happen on.
type failing struct {
	*machine
	dir string
}

// TestFailures makes the failures of docs/errors.md, one after the other on one host, and reads what kist says.
func TestFailures(t *testing.T) {
	m := newFailing(t)
	var table strings.Builder
	all := failures()
	slow := make([]func() outcome, len(all))
	for i := range all {
		if all[i].slow {
			slow[i] = m.begin(all[i].args)
		}
	}
	for i, f := range all {
		began := time.Now()
		var o outcome
		if slow[i] != nil {
			o = slow[i]()
		} else {
			o = m.happen(&f)
		}
		said, code := o.said, o.code
		first := errorLine(said)
		fmt.Fprintf(&table, "%-26s %3d %5d ms  %s\n", f.name, code, time.Since(began).Milliseconds(), first)
		switch {
		case code != f.exit:
			t.Errorf("%s: exit code %d, want %d\n%s", f.name, code, f.exit, said)
		case !regexp.MustCompile(f.first).MatchString(first):
			t.Errorf("%s: the first line does not say %q:\n%s", f.name, f.first, said)
		case !strings.Contains(first, "["+f.code+"]"):
			t.Errorf("%s: the code is not %s:\n%s", f.name, f.code, said)
		case !regexp.MustCompile(f.says).MatchString(said):
			t.Errorf("%s: it does not say %q:\n%s", f.name, f.says, said)
		case !strings.Contains(said, "\ntry:   "):
			t.Errorf("%s: nothing to try:\n%s", f.name, said)
		}
	}
	t.Logf("%d failures\n%s", len(failures()), table.String())
}

// outcome is what kist said, and its exit code.
type outcome struct {
	said string
	code int
}

// happen makes the failure.
func (m *failing) happen(f *failure) (o outcome) {
	m.t.Helper()
	if f.before != nil {
		f.before(m)
	}
	if f.run != nil {
		o.said, o.code = f.run(m)
	} else {
		_, o.said, o.code = m.kist(m.paths(f.args)...)
	}
	if f.after != nil {
		f.after(m)
	}
	return o
}

// begin runs kist beside the test; what it returns waits for the end.
func (m *failing) begin(args []string) func() outcome {
	m.t.Helper()
	cmd := m.host.Command("kist", m.paths(args)...)
	var e bytes.Buffer
	cmd.Stderr = &e
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	return func() outcome {
		_ = cmd.Wait() // Its exit code is what counts.
		return outcome{e.String(), cmd.ProcessState.ExitCode()}
	}
}

// errorLine is the line that says what is wrong; progress may come before it.
func errorLine(said string) string {
	for l := range strings.Lines(said) {
		if strings.HasPrefix(l, "error: ") {
			return strings.TrimSpace(l)
		}
	}
	return ""
}

// paths puts the directory of files in place of its sign.
func (m *failing) paths(args []string) []string {
	list := make([]string, len(args))
	for i, a := range args {
		list[i] = strings.ReplaceAll(a, "@", m.dir)
	}
	return list
}

// Addresses of the host's servers.
const (
	tlsRegistry     = "10.99.0.1:5443"
	plainRegistry   = "10.99.0.1:5001"
	privateRegistry = "127.0.0.1:5002"
	limitedRegistry = "127.0.0.1:5003"
	brokenRegistry  = "127.0.0.1:5004"
)

// newFailing makes the host with what the failures need: images, containers, registries, files.
func newFailing(t *testing.T) *failing {
	m := &failing{machine: newMachine(t)}
	m.dir = m.host.Dir
	busybox := testbed.Busybox.MustArchive(t)
	m.address("10.99.0.1/32")
	m.writableEtc()
	m.files(busybox)
	s := newStore()
	s.push(t, "app", "1.0", noise(1, 1<<10))
	s.push(t, "app", "1.1", noise(1, 1<<10))
	m.serve(at5000, s)
	m.serve(plainRegistry, s)
	m.serveTLS(tlsRegistry, s)
	status := func(status int, header, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if header != "" {
				w.Header().Set("WWW-Authenticate", header)
			}
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		})
	}
	m.serve(privateRegistry, status(http.StatusUnauthorized, `Basic realm="chest"`, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`))
	m.serve(limitedRegistry, status(http.StatusTooManyRequests, "", `{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit"}]}`))
	m.serve(brokenRegistry, status(http.StatusServiceUnavailable, "", ""))
	m.listener()
	m.daemon = m.host.StartDaemon()
	m.ok("load", "-q", "-i", busybox)
	m.ok("import", filepath.Join(m.dir, "foreign.tar"), "foreign")
	m.ok("run", "-d", "--name", "web", "-p", "8080:80", "-v", "data:/data", bb, "sleep", "1000")
	m.ok("create", "--name", "idle", bb, "true")
	m.ok("network", "create", "--subnet", "10.80.0.0/24", "backend")
	m.ok("run", "-d", "--name", "worker", "--network", "backend", bb, "sleep", "1000")
	return m
}

const bb = "kist.test/busybox"

// listener has a program of the host's own listen on a port.
func (m *failing) listener() {
	m.t.Helper()
	cmd := m.host.Command("perl", "-MIO::Socket::INET", "-e",
		`my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1:5050") or die; syswrite STDOUT, "ready\n"; sleep 1000`)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		_, err = out.Read(make([]byte, 1))
	}
	if err != nil {
		m.t.Skipf("skip: no perl that listens: %v", err)
	}
	m.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

// files makes the files that failures are about.
func (m *failing) files(busybox string) {
	m.t.Helper()
	write := func(name, content string, mode os.FileMode) {
		path := filepath.Join(m.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			m.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			m.t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			m.t.Fatal(err)
		}
	}
	write("bin/plain", "echo hello\n", 0o755)
	write("bin/crlf", "#!/bin/sh\r\necho hello\r\n", 0o755)
	write("bin/python", "#!/usr/bin/python3\nprint()\n", 0o755)
	write("bin/locked", "#!/bin/sh\n", 0o644)
	write("bin/foreign", foreignProgram(), 0o755)
	write("bin/empty", "", 0o755)
	write("words.txt", strings.Repeat("no archive\n", 1000), 0o644)
	write("typo/Dockerfile", "FROM "+bb+"\nRUM true\n", 0o644)
	write("copy/Dockerfile", "FROM "+bb+"\nCOPY missing.txt /\n", 0o644)
	write("step/Dockerfile", "FROM "+bb+"\nRUN nosuchtool\n", 0o644)
	write("empty/readme", "", 0o644)
	write("bad.json", "{\n  \"data-root\": \"/x\",\n  \"hosts\": [\"a\"\n}\n", 0o644)
	write("unknown.json", `{"registry-mirors": []}`, 0o644)
	write("kind.json", `{"hosts": "unix:///x"}`, 0o644)
	raw, err := os.ReadFile(busybox)
	if err != nil {
		m.t.Fatal(err)
	}
	write("cut.tar", string(raw[:len(raw)*2/3]), 0o644)
	var whole bytes.Buffer
	w := tar.NewWriter(&whole)
	// A program that is linked dynamically, without the loader that it needs.
	program, err := exec.LookPath("ls")
	if err != nil {
		m.t.Skip("skip: this machine has no ls")
	}
	if raw, err = os.ReadFile(program); err != nil {
		m.t.Fatal(err)
	}
	for _, h := range []*tar.Header{{Name: "tool", Mode: 0o755, Size: int64(len(raw))}} {
		if err := w.WriteHeader(h); err != nil {
			m.t.Fatal(err)
		}
		if _, err := w.Write(raw); err != nil {
			m.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		m.t.Fatal(err)
	}
	write("foreign.tar", whole.String(), 0o644)
}

// foreignProgram is the head of an ELF file for another machine than this.
func foreignProgram() string {
	var b bytes.Buffer
	machine := elf.EM_AARCH64
	if runtime.GOARCH == "arm64" {
		machine = elf.EM_X86_64
	}
	h := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1}, Type: uint16(elf.ET_EXEC),
		Machine: uint16(machine), Version: 1, Ehsize: 64, Phentsize: 56,
	}
	_ = binary.Write(&b, binary.LittleEndian, h) // into memory
	return b.String()
}

// kistWith runs kist with variables of its own.
func (m *failing) kistWith(env []string, args ...string) (string, int) {
	m.t.Helper()
	cmd := m.host.Command("kist", args...)
	cmd.Env = append(cmd.Env, env...)
	var e bytes.Buffer
	cmd.Stderr = &e
	_ = cmd.Run() // Its exit code is what counts.
	return e.String(), cmd.ProcessState.ExitCode()
}

// roots are variables for a second daemon.
func (m *failing) roots(data, exec string) []string {
	return []string{"KIST_DATA_ROOT=" + filepath.Join(m.dir, data), "KIST_EXEC_ROOT=" + filepath.Join(m.dir, exec)}
}

// startsWith has kist start another daemon with a configuration.
func startsWith(config string) func(m *failing) (string, int) {
	return func(m *failing) (string, int) {
		m.host.Run("mkdir", "-p", "/etc/kist")
		m.host.Run("cp", filepath.Join(m.dir, config), "/etc/kist/daemon.json")
		defer m.host.Run("rm", "/etc/kist/daemon.json")
		return m.kistWith(m.roots("second", "second-run"), "ps")
	}
}

// mountedAt has kist start another daemon whose data root is a file system of its own.
func mountedAt(options ...string) func(m *failing) (string, int) {
	return func(m *failing) (string, int) {
		at := filepath.Join(m.dir, "fs")
		m.host.Run("mkdir", "-p", at)
		m.host.Run("mount", append(m.paths(options), "none", at)...)
		defer m.host.Run("umount", at)
		return m.kistWith(m.roots("fs/data", "fs-run"), "ps")
	}
}

// inspected is the reason that inspect gives for an end, as if it were an error.
func inspected(name string) func(m *failing) (string, int) {
	return func(m *failing) (string, int) {
		out, errOut, code := m.kist("inspect", "-f", "error: {{.State.KistExit.Text}} [{{.State.KistExit.Reason}}]\ntry:   {{.State.ExitCode}}", name)
		return out + errOut, code
	}
}

func kistOK(args ...string) func(m *failing) {
	return func(m *failing) { m.ok(args...) }
}

func failures() []failure {
	return append(append(append(runFailures(), storeFailures()...), objectFailures()...), daemonFailures()...)
}

func runFailures() []failure {
	mount := []string{"run", "--rm", "-v", "@/bin:/x", bb}
	in := func(program string) []string { return append(mount[:len(mount):len(mount)], "/x/"+program) }
	return []failure{
		{name: "shell missing", args: []string{"run", "--rm", bb, "bash"}, exit: 127, code: "exec-not-found", first: `bash is not in this image; sh is`},
		{name: "program missing", args: []string{"run", "--rm", bb, "nosuch"}, exit: 127, code: "exec-not-found", first: `nosuch is not in this image`},
		{name: "no execute bit", args: in("locked"), exit: 126, code: "exec-not-executable", first: `not executable, its mode is 0644`},
		{name: "a directory", args: []string{"run", "--rm", bb, "/etc"}, exit: 126, code: "exec-is-directory", first: `/etc is a directory`},
		{name: "no #! line", args: in("plain"), exit: 126, code: "exec-format", first: `/x/plain has no #! line`},
		{name: "CRLF", args: in("crlf"), exit: 127, code: "exec-no-loader", first: `/x/crlf has CRLF line ends`},
		{name: "empty file", args: in("empty"), exit: 126, code: "exec-format", first: `/x/empty is empty`},
		{name: "interpreter missing", args: in("python"), exit: 127, code: "exec-no-loader", first: `a script for /usr/bin/python3, which is not in this image`},
		{name: "loader missing", args: []string{"run", "--rm", "foreign", "/tool"}, exit: 127, code: "exec-no-loader", first: `/tool needs the loader /lib.*, which is not in this image`},
		{name: "other architecture", args: in("foreign"), exit: 126, code: "exec-wrong-architecture", first: `/x/foreign is a...., this host is ` + runtime.GOARCH},
		{name: "working directory", args: []string{"run", "--rm", "-w", "/etc/passwd", bb, "true"}, exit: 125, code: "exec-no-directory", first: `/etc/passwd is a file`},
		{name: "port of a program", args: []string{"run", "--rm", "-p", "127.0.0.1:5050:80", bb, "true"}, exit: 125, code: "port-in-use", first: `127.0.0.1:5050: the port is in use`, says: `held by perl \(pid \d+\)\ntry:   5051 is free`},
		{name: "port of a container", args: []string{"run", "--rm", "-p", "8080:80", bb, "true"}, exit: 125, code: "port-in-use", first: `8080: the port is in use`, says: `held by container web\ntry:   8081 is free`},
		{name: "address not here", args: []string{"run", "--rm", "-p", "192.0.2.1:80:80", bb, "true"}, exit: 125, code: "address-not-here", first: `this host has no such address`},
		{name: "port number", args: []string{"run", "--rm", "-p", "99999:80", bb, "true"}, exit: 125, code: "bad-usage", first: `invalid hostPort: 99999`},
		{name: "name taken", args: []string{"run", "--name", "web", bb, "true"}, exit: 125, code: "name-in-use", first: `"web" is already in use by container .*, which is running`},
		{name: "network misspelt", args: []string{"run", "--rm", "--network", "bakend", bb, "true"}, exit: 125, code: "no-such-network", first: `network bakend not found`, says: `did you mean backend\?`},
		{name: "address outside", args: []string{"run", "--rm", "--network", "backend", "--ip", "10.81.0.5", bb, "true"}, exit: 125, code: "address-outside", first: `10.81.0.5: it is outside of the network's subnet`},
		{name: "volume driver", args: []string{"run", "--rm", "--volume-driver", "nfs", "-v", "x:/x", bb, "true"}, exit: 125, code: "volume-driver-unknown", first: `plugin "nfs" not found`},
		{name: "bind source missing", args: []string{"run", "--rm", "--mount", "type=bind,src=/nosuch,dst=/x", bb, "true"}, exit: 125, code: "bind-source-missing", first: `bind source path does not exist: /nosuch`},
		{name: "too little memory", args: []string{"run", "--rm", "-m", "1m", bb, "true"}, exit: 125, code: "memory-minimum", first: `Minimum memory limit allowed is 6MB`},
		{name: "too many processors", args: []string{"run", "--rm", "--cpus", "4096", bb, "true"}, exit: 125, code: "cpus-range", first: `there are only \d+ CPUs`},
		{name: "user unknown", args: []string{"run", "--rm", "-u", "nobodyhere", bb, "true"}, exit: 125, code: "user-unknown", first: `unable to find user nobodyhere`},
		{name: "device missing", args: []string{"run", "--rm", "--device", "/dev/nosuch", bb, "true"}, exit: 125, code: "device-missing", first: `this host has no /dev/nosuch`},
		{name: "capability unknown", args: []string{"run", "--rm", "--cap-add", "NOSUCH", bb, "true"}, exit: 125, code: "capability-unknown", first: `unknown capability: "CAP_NOSUCH"`},
		{name: "flag misspelt", args: []string{"run", "--memry", "1g", bb}, exit: 125, code: "unknown-flag", first: `unknown flag: --memry`, says: `did you mean --memory\?`},
		{name: "command misspelt", args: []string{"pss"}, exit: 1, code: "unknown-command", first: `no command "pss"`, says: `did you mean kist ps\?`},
		{
			name: "out of memory", run: inspected("hungry"), code: "out-of-memory", first: `killed by the kernel: out of memory, over its limit of 16M \(peak 16M\) at \d\d:\d\d:\d\d`,
			before: func(m *failing) {
				if _, _, code := m.kist("run", "--name", "hungry", "-m", "16m", "--memory-swap", "16m", bb, "tail", "/dev/zero"); code != 137 {
					m.t.Errorf("the hungry one ended with %d", code)
				}
			},
		},
		{
			name: "stop timed out", run: inspected("stubborn"), code: "stop-timeout", first: `it had not ended within 0s of SIGTERM`,
			before: func(m *failing) {
				m.ok("run", "-d", "--name", "stubborn", bb, "sh", "-c", `trap "" TERM; echo ready; while :; do sleep 0.1; done`)
				m.eventually("ready", "logs", "stubborn")
				m.ok("stop", "-t", "0", "stubborn")
			},
		},
		{
			name: "killed from outside", run: inspected("victim"), code: "signalled", first: `SIGKILL from outside the container: not by kist`,
			before: func(m *failing) {
				m.ok("run", "-d", "--name", "victim", bb, "sleep", "1000")
				m.host.Run("kill", "-9", strings.TrimSpace(m.ok("inspect", "-f", "{{.State.Pid}}", "victim")))
				m.ok("wait", "victim")
			},
		},
		{
			name: "unhealthy", run: inspected("sick"), code: "unhealthy", first: `its health check failed 1 times; the last ended with status 1: "not well"`,
			before: func(m *failing) {
				m.ok("run", "-d", "--name", "sick", "--restart", "on-failure:1", "--health-cmd", "echo not well; false", "--health-interval", "100ms",
					"--health-retries", "1", bb, "sleep", "1000")
				m.eventually("^1$", "inspect", "-f", "{{.RestartCount}}", "sick")
			},
			after: kistOK("rm", "-f", "sick"),
		},
	}
}

func storeFailures() []failure {
	return []failure{
		{name: "image misspelt", args: []string{"run", "--rm", "--pull", "never", "kist.test/busybx", "true"}, exit: 125, code: "no-such-image", first: `No such image: kist.test/busybx`, says: `did you mean kist.test/busybox`},
		{name: "image not here", args: []string{"rmi", "kist.test/busybx"}, exit: 1, code: "image-not-found", first: `No such image: kist.test/busybx`},
		{name: "tag missing", args: []string{"pull", at5000 + "/app:9"}, exit: 1, code: "tag-not-found", first: `app:9 not found: the repository has no such tag`, says: `tags: 1.0, 1.1`},
		{name: "repository missing", args: []string{"pull", at5000 + "/ap:1"}, exit: 1, code: "repository-not-found", first: `repository 127.0.0.1:5000/ap does not exist`, says: `app`},
		{name: "private repository", args: []string{"pull", privateRegistry + "/app"}, exit: 1, code: "registry-login-needed", first: `access to .* denied: nobody is logged in`},
		{name: "rate limit", args: []string{"pull", limitedRegistry + "/app"}, exit: 1, slow: true, code: "registry-rate-limit", first: `too many requests`},
		{name: "registry out of order", args: []string{"pull", brokenRegistry + "/app"}, exit: 1, slow: true, code: "registry-unavailable", first: `registry ` + brokenRegistry + ` is out of order`},
		{name: "registry refuses", args: []string{"pull", "127.0.0.1:1/app"}, exit: 1, code: "registry-refused", first: `127.0.0.1:1: the connection is refused`},
		{name: "registry's name", args: []string{"pull", "nosuch.invalid/app"}, exit: 1, slow: true, code: "registry-no-dns", first: `nosuch.invalid: no name server answers`},
		{name: "unknown authority", args: []string{"pull", tlsRegistry + "/app:1.0"}, exit: 1, code: "registry-unknown-ca", first: `signed by an unknown authority`, says: `(?s)Chest Authority.*try:.*/etc/kist/certs.d/10.99.0.1:5443/ca.crt`},
		{name: "plain HTTP", args: []string{"pull", plainRegistry + "/app:1.0"}, exit: 1, code: "registry-plain-http", first: `it speaks plain HTTP`},
		{name: "wrong password", args: []string{"login", "-u", "me", "-p", "wrong", privateRegistry}, exit: 1, code: "registry-login-refused", first: `login to .* failed: wrong name or password`},
		{name: "capital letters", args: []string{"pull", at5000 + "/App"}, exit: 1, code: "invalid-reference", first: `must be lowercase`},
		{name: "platform", args: []string{"run", "--rm", "--pull", "never", "--platform", "linux/s390x", bb}, exit: 125, code: "no-such-platform", first: `does not provide the specified platform \(linux/s390x\)`},
		{name: "push of nothing", args: []string{"push", "nosuch"}, exit: 1, code: "image-not-found", first: `does not exist locally with the tag: nosuch`},
		{name: "no archive", args: []string{"load", "-i", "@/words.txt"}, exit: 1, code: "not-an-archive", first: `this is no image archive`},
		{name: "archive cut off", args: []string{"load", "-i", "@/cut.tar"}, exit: 1, code: "archive-cut-off", first: `the archive is cut off`},
		{name: "archive missing", args: []string{"load", "-i", "@/nosuch.tar"}, exit: 1, code: "file-not-found", first: `nosuch.tar: no such file`},
		{name: "import of no tar", args: []string{"import", "@/words.txt"}, exit: 1, code: "layer-corrupt", first: `corrupt`},
		{name: "image in use", args: []string{"rmi", bb}, exit: 1, code: "image-in-use", first: `container .* is using its referenced image`},
		{name: "no Dockerfile", args: []string{"build", "@/empty"}, exit: 1, code: "no-dockerfile", first: `no Dockerfile in`},
		{name: "no build directory", args: []string{"build", "@/nosuch"}, exit: 1, code: "no-context", first: `there is no directory`},
		{name: "Dockerfile's language", args: []string{"build", "@/typo"}, exit: 1, code: "build-dockerfile", first: `line 2: unknown instruction: RUM`},
		{name: "COPY of nothing", args: []string{"build", "@/copy"}, exit: 1, code: "path-not-found", first: `"/missing.txt": not found`},
		{name: "build step", args: []string{"build", "@/step"}, exit: 1, code: "build-step-failed", first: `RUN nosuchtool failed with exit code 127`},
	}
}

func objectFailures() []failure {
	return []failure{
		{name: "container misspelt", args: []string{"logs", "webb"}, exit: 1, code: "no-such-container", first: `No such container: webb`, says: `did you mean web\?`},
		{name: "exec, not running", args: []string{"exec", "idle", "ls"}, exit: 1, code: "container-not-running", first: `container idle is not running`, says: `it was never started\ntry:   kist start idle`},
		{name: "exec, program missing", args: []string{"exec", "web", "bash"}, exit: 127, code: "exec-not-found", first: `bash is not in this image; sh is`},
		{name: "cp, path missing", args: []string{"cp", "web:/nosuch", "@/"}, exit: 1, code: "path-not-in-container", first: `there is no /nosuch in container web`},
		{name: "cp, file missing", args: []string{"cp", "@/nosuch", "web:/"}, exit: 1, code: "file-not-found", first: `nosuch: no such file`},
		{name: "rm of a running one", args: []string{"rm", "web"}, exit: 1, code: "container-running", first: `container is running`},
		{name: "unpause", args: []string{"unpause", "web"}, exit: 1, code: "container-not-paused", first: `web is not paused`},
		{name: "port not published", args: []string{"port", "web", "81"}, exit: 1, code: "port-not-published", first: `no public port '81/tcp'`},
		{name: "volume misspelt", args: []string{"volume", "rm", "dat"}, exit: 1, code: "no-such-volume", first: `get dat: no such volume`, says: `did you mean data\?`},
		{name: "volume in use", args: []string{"volume", "rm", "data"}, exit: 1, code: "volume-in-use", first: `volume is in use`},
		{name: "network in use", args: []string{"network", "rm", "backend"}, exit: 1, code: "network-in-use", first: `backend: containers use it`},
		{name: "network's subnet", args: []string{"network", "create", "--subnet", "10.80.0.0/16", "more"}, exit: 1, code: "subnet-overlap", first: `10.80.0.0/16: it overlaps another`},
		{name: "connect twice", args: []string{"network", "connect", "nosuch", "web"}, exit: 1, code: "no-such-network", first: `network nosuch not found`},
		{name: "inspect of nothing", args: []string{"inspect", "nosuch"}, exit: 1, code: "not-found", first: `no such object: nosuch`},
		{name: "too few arguments", args: []string{"tag", "x"}, exit: 1, code: "bad-usage", first: `requires 2 arguments`},
	}
}

func daemonFailures() []failure {
	return []failure{
		{name: "wrong socket", args: []string{"-H", "unix:///nosuch.sock", "ps"}, exit: 1, code: "daemon-wrong-socket", first: `unix:///nosuch.sock: there is no such socket`},
		{name: "nothing listens", args: []string{"-H", "tcp://127.0.0.1:9", "ps"}, exit: 1, code: "daemon-not-running", first: `tcp://127.0.0.1:9: nothing listens there`},
		{name: "no host", args: []string{"-H", "foo://", "ps"}, exit: 1, code: "bad-host", first: `"foo://" is not a host`},
		{
			name: "not running", exit: 1, code: "daemon-not-running", first: `no daemon is running`,
			run: func(m *failing) (string, int) {
				return m.kistWith(m.roots("second", "second-run"), "--no-autostart", "ps")
			},
		},
		{
			name: "no permission", exit: 1, code: "daemon-no-permission", first: `this user may not open the socket`,
			run: func(m *failing) (string, int) {
				cmd := m.host.Command("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", filepath.Join(testbed.Bin(), "kist"), "ps")
				m.host.Run("chmod", "755", filepath.Dir(m.host.Socket()), m.dir)
				var e bytes.Buffer
				cmd.Stderr = &e
				_ = cmd.Run() // Its exit code is what counts.
				return e.String(), cmd.ProcessState.ExitCode()
			},
		},
		{name: "daemon.json, no JSON", run: startsWith("bad.json"), exit: 1, code: "daemon-config", first: `/etc/kist/daemon.json is no JSON`, says: `line 4, column 1`},
		{name: "daemon.json, unknown key", run: startsWith("unknown.json"), exit: 1, code: "daemon-config", first: `unknown key "registry-mirors"`, says: `did you mean "registry-mirrors"\?`},
		{name: "daemon.json, wrong kind", run: startsWith("kind.json"), exit: 1, code: "daemon-config", first: `the key "hosts" .* wrong kind`},
		{
			name: "two daemons", exit: 1, code: "daemon-root-in-use", first: `data is in use by another kistd \(pid \d+\)`,
			run: func(m *failing) (string, int) { return m.kistWith(m.roots("data", "other-run"), "ps") },
		},
		{
			name: "root is a file", exit: 1, code: "daemon-data-root", first: `a file is in the way of its directory`,
			run: func(m *failing) (string, int) { return m.kistWith(m.roots("words.txt/data", "other-run"), "ps") },
		},
		{
			name: "socket's path", exit: 1, code: "daemon-socket-path", first: `the path of its socket is too long`,
			run: func(m *failing) (string, int) {
				return m.kistWith(m.roots("second", strings.Repeat("long/", 30)), "ps")
			},
		},
		{name: "disk full at start", run: mountedAt("-t", "tmpfs", "-o", "size=16k"), exit: 1, code: "disk-full", first: `no space left`},
		{name: "disk read-only", run: mountedAt("-t", "tmpfs", "-o", "ro"), exit: 1, code: "daemon-data-root", first: `read-only`},
		{
			name: "file system", exit: 1, code: "daemon-data-root", first: `a container's root cannot be made in .* \(overlay\)`,
			before: func(m *failing) {
				m.host.Run("mkdir", "-p", filepath.Join(m.dir, "upper"), filepath.Join(m.dir, "work"))
			},
			run: mountedAt("-t", "overlay", "-o", "lowerdir=/usr/share,upperdir=@/upper,workdir=@/work"),
		},
		{
			name: "port of the daemon", exit: 1, code: "daemon-socket-in-use", first: `tcp://127.0.0.1:5050 is in use by perl \(pid \d+\)`,
			run: func(m *failing) (string, int) {
				cmd := m.host.Command("kistd", "-H", "tcp://127.0.0.1:5050", "--bridge", "none", "--data-root", filepath.Join(m.dir, "third"), "--exec-root", filepath.Join(m.dir, "third-run"))
				var e bytes.Buffer
				cmd.Stderr = &e
				_ = cmd.Run() // Its exit code is what counts.
				return e.String(), cmd.ProcessState.ExitCode()
			},
		},
		{
			name: "disk full", exit: 1, code: "disk-full", first: `no space left on device`,
			run: func(m *failing) (string, int) {
				at := filepath.Join(m.dir, "small")
				m.host.Run("mkdir", "-p", at)
				m.host.Run("mount", "-t", "tmpfs", "-o", "size=2m", "none", at)
				said, code := m.kistWith(m.roots("small/data", "small-run"), "import", "--message", "x", filepath.Join(m.dir, "large.tar"), "large")
				return said, code
			},
			before: func(m *failing) {
				m.host.Run("tar", "-cf", filepath.Join(m.dir, "large.tar"), "-C", testbed.Bin(), "kist")
			},
		},
	}
}

// eventually waits until a command's output matches.
func (m *failing) eventually(want string, args ...string) {
	m.t.Helper()
	re := regexp.MustCompile("(?m)" + want)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if out, _, _ := m.kist(args...); re.MatchString(out) {
			return
		}
	}
	m.t.Fatalf("kist %s: never %q", strings.Join(args, " "), want)
}
