package engine

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/kistdev/kist/internal/sys"
	"github.com/kistdev/kist/internal/task"
)

func TestDeaf(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for a pid namespace")
	}
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("needs a shell")
	}
	start := func(script string, flags uintptr) int {
		// The last command is not alone in its line, so that the shell does not become it.
		cmd := exec.Command("sh", "-c", script+"; echo ready; read line; true")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
		if _, err := out.Read(make([]byte, 16)); err != nil {
			t.Fatal(err)
		}
		return cmd.Process.Pid
	}
	plain := start("true", syscall.CLONE_NEWPID)
	trapping := start("trap 'exit 1' TERM", syscall.CLONE_NEWPID)
	ignoring := start("trap '' TERM", syscall.CLONE_NEWPID)
	host := start("true", 0)
	for name, tt := range map[string]struct {
		pid  int
		sig  syscall.Signal
		want bool
	}{
		"no handler":           {plain, syscall.SIGTERM, true},
		"ignores it":           {ignoring, syscall.SIGTERM, false},
		"has a handler":        {trapping, syscall.SIGTERM, false},
		"has another handler":  {trapping, syscall.SIGQUIT, true},
		"kill always arrives":  {plain, syscall.SIGKILL, false},
		"not an init":          {host, syscall.SIGTERM, false},
		"there is no such pid": {1 << 30, syscall.SIGTERM, false},
	} {
		if got := deaf(tt.pid, tt.sig); got != tt.want {
			t.Errorf("%s: deaf = %v", name, got)
		}
	}
}

func TestReadELF(t *testing.T) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := readELF(f)
	if err != nil || architectures[p.machine] != runtime.GOARCH {
		t.Errorf("own program: %+v, %v", p, err)
	}
	p, err = readELF(bytes.NewReader(fakeELF(elf.EM_AARCH64, "/lib/ld.so")))
	if err != nil || p.machine != elf.EM_AARCH64 || p.loader != "/lib/ld.so" {
		t.Errorf("made program: %+v, %v", p, err)
	}
	if _, err := readELF(strings.NewReader("#!/bin/sh\n")); !errors.Is(err, errNotELF) {
		t.Error(err)
	}
}

// fakeELF is a header, one program header, and the loader's name.
func fakeELF(m elf.Machine, loader string) []byte {
	b := make([]byte, 64+56+len(loader)+1)
	copy(b, elf.ELFMAG)
	b[elf.EI_CLASS], b[elf.EI_DATA] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB)
	le := binary.LittleEndian
	le.PutUint16(b[18:], uint16(m))
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	le.PutUint32(b[64:], uint32(elf.PT_INTERP))
	le.PutUint64(b[64+8:], 120)
	le.PutUint64(b[64+32:], uint64(len(loader)+1))
	copy(b[120:], loader)
	return b
}

func FuzzReadELF(f *testing.F) {
	f.Add(fakeELF(elf.EM_X86_64, "/lib64/ld-linux-x86-64.so.2"))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := readELF(bytes.NewReader(raw))
		if err == nil && len(p.loader) > maxLoader {
			t.Errorf("loader of %d bytes", len(p.loader))
		}
	})
}

func TestExamine(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	foreign := elf.EM_AARCH64
	if runtime.GOARCH == "arm64" {
		foreign = elf.EM_X86_64
	}
	write("bin/sh", "x", 0o755)
	write("bin/python3", "x", 0o755)
	write("plain", "echo hi\n", 0o755)
	write("empty", "", 0o755)
	write("crlf", "#!/bin/sh\r\necho\r\n", 0o755)
	write("perl", "#!/usr/bin/perl -w\n", 0o755)
	write("noexec", "#!/bin/sh\n", 0o644)
	write("dynamic", string(fakeELF(elf.EM_X86_64, "/lib64/ld-linux-x86-64.so.2")), 0o755)
	write("foreign", string(fakeELF(foreign, "/lib/x")), 0o755)
	write("app/run", "#!/bin/nosh\n", 0o755)
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	root, err := sys.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	d := &definition{Arch: architectures[foreign], Config: &docker.Config{WorkingDir: "/app", Env: []string{"PATH=/sbin:/bin"}}}
	there := filepath.Join(t.TempDir(), "there")
	if err := os.MkdirAll(there, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(there, "crlf.sh"), []byte("#!/bin/sh\r\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	d.Mounts = []mountPoint{
		{Type: mount.TypeBind, Source: there, Target: "/mnt"},
		{Type: mount.TypeBind, Source: filepath.Join(there, "crlf.sh"), Target: "/usr/bin/one.sh"},
	}
	seen := &tree{root: root, d: d}
	defer seen.close()
	for _, tt := range []struct {
		path  string
		errno syscall.Errno
		code  string
		cause string
	}{
		{"", syscall.ENOENT, "exec-not-found", "the program's name is empty"},
		{"/plain/x", syscall.ENOTDIR, "exec-not-found", "a part of /plain is a file, no directory"},
		{"/mnt/crlf.sh", syscall.ENOENT, "exec-no-loader", "/mnt/crlf.sh has CRLF line ends"},
		{"/usr/bin/one.sh", syscall.ENOENT, "exec-no-loader", "/usr/bin/one.sh has CRLF line ends"},
		{"/mnt/nosuch", syscall.ENOENT, "exec-not-found", "/mnt/nosuch is not in " + there + ", which is mounted at /mnt"},
		{"bash", syscall.ENOENT, "exec-not-found", "bash is not in this image; sh is"},
		{"pyhton3", syscall.ENOENT, "exec-not-found", "pyhton3 is not in this image; python3 is"},
		{"/usr/bin/python3", syscall.ENOENT, "exec-not-found", "/usr/bin/python3 is not in this image; python3 is, elsewhere"},
		{"/link", syscall.ENOENT, "exec-not-found", "/link is not in this image"},
		{"/plain", syscall.ENOEXEC, "exec-format", "has no #! line"},
		{"/empty", syscall.ENOEXEC, "exec-format", "/empty is empty"},
		{"/crlf", syscall.ENOENT, "exec-no-loader", `CRLF line ends: its first line asks for "/bin/sh\r"`},
		{"/perl", syscall.ENOENT, "exec-no-loader", "/perl is a script for /usr/bin/perl, which is not in this image"},
		{"/noexec", syscall.EACCES, "exec-not-executable", "/noexec is not executable, its mode is 0644"},
		{"/bin", syscall.EACCES, "exec-is-directory", "/bin is a directory"},
		{"/dynamic", syscall.ENOENT, "exec-no-loader", "/dynamic needs the loader /lib64/ld-linux-x86-64.so.2, which is not in this image"},
		{"/foreign", syscall.ENOEXEC, "exec-wrong-architecture", "the image is " + architectures[foreign] + ", this host is " + runtime.GOARCH},
		{"./run", syscall.ENOENT, "exec-no-loader", "/app/run is a script for /bin/nosh"},
	} {
		f := examineProgram(seen, &task.ExecError{Path: tt.path, Step: "execve", Errno: tt.errno})
		if f.code != tt.code || !strings.Contains(f.cause, tt.cause) {
			t.Errorf("%s: %+v, want %s %q", tt.path, f, tt.code, tt.cause)
		}
	}
	if f := examineDir(seen, &task.ExecError{Path: "/nodir", Step: "chdir", Errno: syscall.ENOENT}); !strings.Contains(f.cause, "is not in this image") {
		t.Errorf("%+v", f)
	}
}

// What docker's command line looks for in the message, to end with 127 or 126.
func TestExecWords(t *testing.T) {
	for _, tt := range []struct {
		x    task.ExecError
		want string
	}{
		{task.ExecError{Path: "x", Step: "lookup", Errno: syscall.ENOENT}, "executable file not found in $PATH"},
		{task.ExecError{Path: "/x", Step: "execve", Errno: syscall.ENOENT}, "no such file or directory"},
		{task.ExecError{Path: "/x", Step: "execve", Errno: syscall.EACCES}, "permission denied"},
		{task.ExecError{Path: "/x", Step: "execve", Errno: syscall.EISDIR}, "is a directory"},
		{task.ExecError{Path: "/x", Step: "chdir", Errno: syscall.ENOENT}, "no such file or directory"},
	} {
		if got := execWords(&tt.x, false); !strings.Contains(got, tt.want) {
			t.Errorf("%+v: %q", tt.x, got)
		}
	}
	if got := exitCodeOf(&task.ExecError{Errno: syscall.ENOENT}); got != 127 {
		t.Error(got)
	}
	if got := exitCodeOf(&task.ExecError{Errno: syscall.ENOEXEC}); got != 126 {
		t.Error(got)
	}
}

func TestParsePS(t *testing.T) {
	for args, want := range map[string]string{
		"":               "UID PID PPID C STIME TTY TIME CMD",
		"-ef":            "UID PID PPID C STIME TTY TIME CMD",
		"aux":            "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND",
		"-o pid,comm":    "PID COMMAND",
		"-eo pid,ppid":   "PID PPID",
		"-e -o pid=NUM":  "NUM",
		"-opid,%cpu,cmd": "PID %CPU CMD",
		"-e":             "PID TTY TIME CMD",
		"-o":             "!",
		"-o nosuch":      "!",
		"--forest":       "!",
		"-o pid; rm":     "!",
	} {
		cols, err := parsePS(args)
		titles := make([]string, len(cols))
		for i, c := range cols {
			titles[i] = c.title
		}
		got := strings.Join(titles, " ")
		if want == "!" {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("parsePS(%q) = %s, %v", args, got, err)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("parsePS(%q) = %q, %v; want %q", args, got, err, want)
		}
	}
}

func TestReadProcess(t *testing.T) {
	p, err := readProcess(os.Getpid(), clock())
	if err != nil {
		t.Fatal(err)
	}
	if p.pid != os.Getpid() || p.ppid != os.Getppid() || p.uid != os.Getuid() || p.rss == 0 || !strings.Contains(p.args, "test") {
		t.Errorf("%+v", p)
	}
	if p.age < 0 || p.age > time.Hour {
		t.Errorf("age %v", p.age)
	}
	for _, c := range columns {
		if c.show(p) == "" {
			t.Errorf("column %s is empty", c.title)
		}
	}
	if _, err := readProcess(1<<30, clock()); err == nil {
		t.Error("a process that is not there was read")
	}
}
