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
	// A program that is linked dynamically, without the loader that it needs.
	program, err := exec.LookPath("ls")
	if err != nil {
		m.t.Skip("skip: this machine has no ls")
	}
	if raw, err = os.ReadFile(program); err != nil {
		m.t.Fatal(err)
	}
	write("foreign.tar", string(testbed.Tar(m.t, tar.Header{Name: "tool", Mode: 0o755, Linkname: string(raw)})), 0o644)
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
