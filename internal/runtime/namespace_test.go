package runtime

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"
)

func without(b *Bundle, kind specs.LinuxNamespaceType) {
	var kept []specs.LinuxNamespace
	for _, n := range b.Spec.Linux.Namespaces {
		if n.Type != kind {
			kept = append(kept, n)
		}
	}
	b.Spec.Linux.Namespaces = kept
}

func hostNamespace(t *testing.T, kind string) string {
	t.Helper()
	l, err := os.Readlink("/proc/self/ns/" + kind)
	must(t, err)
	return l
}

func TestHostNamespaces(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		for _, n := range []specs.LinuxNamespaceType{"network", "uts", "pid", "ipc", "cgroup"} {
			t.Run(string(n), func(t *testing.T) {
				file := string(n)
				if n == "network" {
					file = "net"
				}
				o := sh(t, r, "readlink /proc/self/ns/"+file, func(b *Bundle) {
					without(b, n)
					if n == "uts" {
						b.Spec.Hostname = ""
					}
				})
				want(t, o, 0, hostNamespace(t, file))
			})
		}
	})
}

func TestJoinedNamespaces(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		other := background(t, r, bundle(t, "/bin/sleep", "1000"))
		for _, n := range [][2]string{{"network", "net"}, {"uts", "uts"}, {"ipc", "ipc"}, {"pid", "pid"}, {"cgroup", "cgroup"}} {
			t.Run(n[0], func(t *testing.T) {
				path := fmt.Sprintf("/proc/%d/ns/%s", other.PID, n[1])
				there, err := os.Readlink(path)
				must(t, err)
				o := sh(t, r, "readlink /proc/self/ns/"+n[1]+"; cat /proc/1/comm; true", func(b *Bundle) {
					without(b, specs.LinuxNamespaceType(n[0]))
					b.Spec.Linux.Namespaces = append(b.Spec.Linux.Namespaces,
						specs.LinuxNamespace{Type: specs.LinuxNamespaceType(n[0]), Path: path})
				})
				first := "sh"
				if n[0] == "pid" {
					first = "sleep"
				}
				want(t, o, 0, there+"\n"+first)
			})
		}
		t.Run("network by descriptor", func(t *testing.T) {
			f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", other.PID))
			must(t, err)
			defer f.Close()
			there, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", other.PID))
			must(t, err)
			want(t, sh(t, r, "readlink /proc/self/ns/net", func(b *Bundle) { b.NetNS = f }), 0, there)
		})
	})
}

func TestTimeNamespace(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		if _, err := os.Stat("/proc/self/ns/time"); err != nil {
			t.Skip("the kernel has no time namespaces")
		}
		o := sh(t, r, "cat /proc/uptime", func(b *Bundle) {
			b.Spec.Linux.Namespaces = append(b.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: "time"})
			b.Spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1_000_000_000}}
		})
		if !strings.HasPrefix(o.out, "100") || len(strings.Split(o.out, ".")[0]) != 10 {
			t.Errorf("uptime %q", o.out)
		}
	})
}

func TestUserNamespace(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		edit := func(b *Bundle) {
			b.Spec.Linux.Namespaces = append(b.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: "user"})
			b.Spec.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
			b.Spec.Linux.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 200000, Size: 65536}}
			b.Spec.Process.OOMScoreAdj = ptr(55)
			for _, d := range []string{b.Rootfs.Upper, b.Rootfs.Work, b.Rootfs.Lower[0]} {
				must(t, os.Chown(d, 100000, 200000))
			}
		}
		t.Run("first process", func(t *testing.T) {
			o := sh(t, r, `cat /proc/self/uid_map | tr -s ' '; id -u; touch /made && stat -c '%u %g' /made; stat -c %F /dev/null; echo x >/dev/null
				cat /proc/self/oom_score_adj; cat /proc/keys | wc -c; ls /sys/firmware | wc -l; grep -c ' / / ' /proc/self/mountinfo; echo x 2>&1 >/proc/sys/kernel/hostname`, edit)
			want(t, o, 1, "0 100000 65536\n0\n0 0\ncharacter special file\n55\n0\n0\n1\n/bin/sh: can't create /proc/sys/kernel/hostname: Read-only file system")
		})
		t.Run("other user", func(t *testing.T) {
			o := sh(t, r, "id -u; id -g; id -G", func(b *Bundle) {
				edit(b)
				b.Spec.Process.User = specs.User{UID: 10, GID: 20, AdditionalGids: []uint32{20, 30}}
			})
			want(t, o, 0, "10\n20\n20 30")
		})
		t.Run("missing mount target belongs to its root", func(t *testing.T) {
			o := sh(t, r, "stat -c '%u %g' /x/y/z", func(b *Bundle) {
				edit(b)
				b.Spec.Process.Cwd = "/x/y/z"
			})
			want(t, o, 0, "0 0")
		})
		t.Run("exec", func(t *testing.T) {
			b := bundle(t, "/bin/sleep", "1000")
			edit(&b)
			p := background(t, r, b)
			e := *b.Spec.Process
			e.Args = []string{"sh", "-c", "id -u; test $(readlink /proc/1/ns/user) = $(readlink /proc/self/ns/user) && echo same"}
			o, err := execIn(t, r, ExecTarget{PIDFD: p.PIDFD, PID: p.PID, Spec: b.Spec}, &e)
			if errors.Is(err, errdefs.ErrNotImplemented) {
				t.Skip("the plain executor cannot enter a user namespace")
			}
			must(t, err)
			want(t, o, 0, "0\nsame")
		})
	})
}

func TestRefusedNamespaces(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		for _, c := range []struct {
			name  string
			edit  func(l *specs.Linux)
			class error
		}{
			{"no mount namespace", func(l *specs.Linux) { l.Namespaces = l.Namespaces[1:] }, errdefs.ErrNotImplemented},
			{"twice", func(l *specs.Linux) { l.Namespaces = append(l.Namespaces, l.Namespaces[1]) }, errdefs.ErrInvalidArgument},
			{"unknown", func(l *specs.Linux) { l.Namespaces[1].Type = "mind" }, errdefs.ErrInvalidArgument},
			{"user of another", func(l *specs.Linux) {
				l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: "user", Path: "/proc/1/ns/user"})
			}, errdefs.ErrNotImplemented},
			{"wrong kind", func(l *specs.Linux) { l.Namespaces[1].Path = "/proc/self/ns/uts" }, unix.EINVAL},
			{"missing", func(l *specs.Linux) { l.Namespaces[1].Path = "/nowhere" }, unix.ENOENT},
			{"maps alone", func(l *specs.Linux) { l.UIDMappings = []specs.LinuxIDMapping{{Size: 1}} }, errdefs.ErrInvalidArgument},
			{"host's sysctl", func(l *specs.Linux) { l.Sysctl = map[string]string{"vm.swappiness": "1"} }, errdefs.ErrInvalidArgument},
			{"host's network sysctl", func(l *specs.Linux) {
				l.Namespaces = append(l.Namespaces[:1:1], l.Namespaces[2:]...)
				l.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
			}, errdefs.ErrInvalidArgument},
			{"sysctl with dots", func(l *specs.Linux) { l.Sysctl = map[string]string{"net/../vm/swappiness": "1"} }, errdefs.ErrInvalidArgument},
		} {
			t.Run(c.name, func(t *testing.T) {
				b := bundle(t, "/bin/true")
				c.edit(b.Spec.Linux)
				if _, err := tryRun(t, r, b); !errors.Is(err, c.class) {
					t.Errorf("got %v, want %v", err, c.class)
				}
			})
		}
	})
}
