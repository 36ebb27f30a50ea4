package runtime

import (
	"encoding/json"
	goruntime "runtime"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/seccomp"
	"github.com/kistdev/kist/internal/sys"
	"github.com/kistdev/kist/internal/testbed/suite"
)

// pureFacts are a host's that no test machine has to be.
func pureFacts() *facts {
	return &facts{
		Ignored: 1<<(unix.SIGHUP-1) | 1<<(32-1),
		Caps:    1<<41 - 1, Bounding: 1<<41 - 1, LastCap: 40, Base: true, LayerOption: true, Kcore: true, OOMScoreMin: -1000,
		Limits: map[int]uint64{unix.RLIMIT_NOFILE: 1 << 20}, Hierarchies: []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu,cpuacct"},
	}
}

func pureInput() *input {
	return &input{
		id: "c0ffee", spec: dockerSpec("c0ffee", "sh", "-c", "true"), facts: pureFacts(),
		rootfs: &sys.Overlay{Lower: []string{"/layers/b", "/layers/a"}, Upper: "/rw/upper", Work: "/rw/work"},
		tasks:  []string{"/sys/fs/cgroup/memory/x/tasks", "/sys/fs/cgroup/cpu,cpuacct/x/tasks"},
		filter: &seccomp.Filter{Program: make([]unix.SockFilter, 3)},
	}
}

func TestCompileGolden(t *testing.T) {
	if goruntime.GOARCH != "amd64" {
		t.Skip("system calls have other numbers on this architecture; the programs are the same")
	}
	for _, c := range []struct {
		name string
		edit func(in *input)
	}{
		{"docker", func(*input) {}},
		{"terminal", func(in *input) {
			in.spec.Process.Terminal, in.spec.Process.ConsoleSize = true, &specs.Box{Height: 24, Width: 80}
		}},
		{"userns", func(in *input) {
			in.spec.Linux.Namespaces = append(in.spec.Linux.Namespaces, specs.LinuxNamespace{Type: "user"})
			in.spec.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 1000, Size: 10}}
			in.spec.Linux.GIDMappings = in.spec.Linux.UIDMappings
		}},
		{"everything", func(in *input) {
			in.netNS, in.rootfs.Volatile, in.rootfs.UserXattr = true, true, true
			in.v2, in.tasks = "/sys/fs/cgroup/x", nil
			in.sources = map[string]bool{"/src": true, "/src/file": false}
			s := in.spec
			s.Domainname, s.Root.Readonly = "example", true
			s.Mounts = append(
				s.Mounts,
				specs.Mount{Destination: "/data", Type: "bind", Source: "/src", Options: []string{"rbind", "rro", "rslave"}},
				specs.Mount{Destination: "/etc/hosts", Type: "bind", Source: "/src/file", Options: []string{"bind", "ro"}},
				specs.Mount{Destination: "/run", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup", "size=1m"}},
			)
			p := s.Process
			p.User = specs.User{UID: 1, GID: 2, AdditionalGids: []uint32{3}}
			p.NoNewPrivileges, p.OOMScoreAdj = true, ptr(5)
			p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1 << 30, Hard: 1 << 30}}
			s.Linux.Sysctl = map[string]string{"net.core.somaxconn": "5"}
			s.Linux.RootfsPropagation = "shared"
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/net/tun", Type: "c", Major: 10, Minor: 200}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := pureInput()
			c.edit(in)
			p, err := compile(in)
			must(t, err)
			suite.Golden(t, c.name+".plan", p.String())
		})
	}
	t.Run("exec", func(t *testing.T) {
		in := pureInput()
		in.first = in.spec.Process.Capabilities
		p, err := compileExec(in)
		must(t, err)
		suite.Golden(t, "exec.plan", p.String())
	})
}

// The same input gives the same program, byte for byte.
func TestCompileIsPure(t *testing.T) {
	a, err := compile(pureInput())
	must(t, err)
	b, err := compile(pureInput())
	must(t, err)
	if a.String() != b.String() || string(a.mem) != string(b.mem) {
		t.Error("two programs of one input differ")
	}
}

// FuzzCompile compiles specifications that come from elsewhere. A program that compiles can be laid out.
func FuzzCompile(f *testing.F) {
	for _, edit := range []func(s *specs.Spec){
		func(*specs.Spec) {},
		func(s *specs.Spec) { s.Process.Terminal = true },
		func(s *specs.Spec) { s.Linux = nil },
		func(s *specs.Spec) { s.Mounts[0].Destination = "../.." },
	} {
		s := dockerSpec("f", "sh")
		edit(s)
		b, err := json.Marshal(s)
		must(f, err)
		f.Add(b)
	}
	f.Add([]byte(`{"process":{"args":["a"],"cwd":"/"},"linux":{"namespaces":[{"type":"mount"}],"maskedPaths":["x"]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s specs.Spec
		if json.Unmarshal(b, &s) != nil {
			return
		}
		in := pureInput()
		in.spec = &s
		c, err := compile(in)
		if err != nil {
			return
		}
		im, err := load(c.Program, true)
		must(t, err)
		defer im.free()
		_ = c.String()
	})
}
