package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"
)

// source is a directory on the host with a file, a link and a mount below it.
func source(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("text\n"), 0o644))
	must(t, os.Chmod(dir, 0o755))
	sub := filepath.Join(dir, "sub")
	must(t, os.Mkdir(sub, 0o755))
	must(t, unix.Mount("sub", sub, "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { must(t, unix.Unmount(sub, unix.MNT_DETACH)) })
	must(t, os.WriteFile(filepath.Join(sub, "below"), nil, 0o644))
	return dir
}

func TestMounts(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		src := source(t)
		file := filepath.Join(src, "file")
		m := func(dest, kind, from string, options ...string) specs.Mount {
			return specs.Mount{Destination: dest, Type: kind, Source: from, Options: options}
		}
		for _, c := range []struct {
			name   string
			mount  specs.Mount
			low    func(low string)
			script string
			code   int
			out    string
		}{
			{"bind", m("/data", "bind", src, "bind"), nil, "cat /data/file; ls /data/sub | wc -l; touch /data/sub/x && rm /data/sub/x", 0, "text\n0"},
			{"rbind", m("/data", "", src, "rbind"), nil, "ls /data/sub; touch /data/sub/x && rm /data/sub/x", 0, "below"},
			{"rbind ro", m("/data", "bind", src, "rbind", "ro"), nil, "touch /data/x 2>/dev/null || echo no; touch /data/sub/x && rm /data/sub/x && echo yes", 0, "no\nyes"},
			{"recursive read-only", m("/data", "bind", src, "rbind", "rro"), nil, "touch /data/x 2>/dev/null || echo no; touch /data/sub/x 2>/dev/null || echo no", 0, "no\nno"},
			{"flags", m("/data", "bind", src, "bind", "nosuid", "nodev", "noexec", "noatime"), nil, "mount | grep -c '/data .*(rw,nosuid,nodev,noexec,noatime'", 0, "1"},
			{"file", m("/etc/new/conf", "bind", file, "bind", "ro"), nil, "cat /etc/new/conf; stat -c %F /etc/new/conf", 0, "text\nregular file"},
			{"file over file", m("/etc/passwd", "bind", file, "bind"), nil, "cat /etc/passwd", 0, "text"},
			{"deep", m("/a/b/c/d", "bind", src, "bind"), nil, "cat /a/b/c/d/file; stat -c '%a %u' /a/b/c", 0, "text\n755 0"},
			{"over a link inside", m("/link/x", "bind", src, "bind"), func(low string) {
				must(t, os.Symlink("/tmp/../tmp", filepath.Join(low, "link")))
			}, "cat /tmp/x/file", 0, "text"},
			{"dangling link", m("/etc/resolv.conf", "bind", file, "bind"), func(low string) {
				must(t, os.Symlink("../run/resolve/stub.conf", filepath.Join(low, "etc/resolv.conf")))
			}, "cat /etc/resolv.conf; stat -c %F /run/resolve/stub.conf", 0, "text\nregular file"},
			{"dangling directory", m("/var/data", "bind", src, "bind"), func(low string) {
				must(t, os.Symlink("/mnt/very/deep", filepath.Join(low, "var")))
			}, "cat /mnt/very/deep/data/file", 0, "text"},
			{"tmpfs", m("/scratch", "tmpfs", "tmpfs", "size=1m", "mode=1750", "noexec"), nil, "stat -c %a /scratch; mount | grep -c '/scratch .*noexec.*size=1024k'", 0, "1750\n1"},
			{"tmpfs takes the mode of its place", m("/tmp", "tmpfs", "tmpfs"), nil, "stat -c %a /tmp", 0, "1777"},
			{"tmpfs in a new place", m("/new", "tmpfs", "tmpfs"), nil, "stat -c %a /new", 0, "1777"},
			{"tmpcopyup", m("/etc", "tmpfs", "tmpfs", "tmpcopyup"), func(low string) {
				d := filepath.Join(low, "etc/sub")
				must(t, os.Mkdir(d, 0o750))
				must(t, os.WriteFile(filepath.Join(d, "f"), []byte("copied"), 0o640))
				must(t, os.Chown(filepath.Join(d, "f"), 3, 4))
				must(t, os.Symlink("nowhere", filepath.Join(d, "l")))
			}, "cat /etc/sub/f; echo; stat -c '%a %u %g' /etc/sub /etc/sub/f; readlink /etc/sub/l; mount | grep -c 'on /etc type tmpfs'", 0, "copied\n750 0 0\n640 3 4\nnowhere\n1"},
			{"private by default", m("/data", "bind", src, "rbind"), nil, "grep ' /data ' /proc/self/mountinfo | grep -Ec 'shared:|master:'", 1, "0"},
			{"shared", m("/data", "bind", src, "rbind", "rshared"), nil, "grep ' /data ' /proc/self/mountinfo | grep -c shared:", 0, "1"},
		} {
			t.Run(c.name, func(t *testing.T) {
				b := bundle(t, "/bin/sh", "-c", c.script)
				b.Spec.Mounts = append(b.Spec.Mounts, c.mount)
				if c.low != nil {
					c.low(b.Rootfs.Lower[0])
				}
				want(t, run(t, r, b), c.code, c.out)
			})
		}
	})
}

// Kernels before 6.8 mount an overlay by mount(2), in a copy of the host's mount namespace.
func TestOldOverlay(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		f := *r.facts
		f.LayerOption = false
		r.facts = &f
		o := sh(t, r, "touch /made; ls /made; pwd; mount | grep -c 'on / type overlay'; grep -c ' / / ' /proc/self/mountinfo; cat /proc/keys | wc -c; ls /", func(b *Bundle) {
			b.Spec.Process.Cwd = "/job/dir"
			src := t.TempDir()
			b.Spec.Mounts = append(b.Spec.Mounts, specs.Mount{Destination: "/vol/deep", Type: "bind", Source: src})
		})
		want(t, o, 0, "/made\n/job/dir\n1\n1\n0\nbin\ndev\netc\njob\nmade\nproc\nroot\nsys\ntmp\nvol")
		b := bundle(t, "/bin/true")
		for range 60 {
			b.Rootfs.Lower = append(b.Rootfs.Lower, "/"+strings.Repeat("x", 100))
		}
		if _, err := r.Create(t.Context(), b, Stdio{}); !errors.Is(err, errdefs.ErrNotImplemented) {
			t.Errorf("more layers than fit: %v", err)
		}
	})
}

// A mount on the host's side of a slave is seen in the container.
func TestSlaveMountFollowsHost(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		src := t.TempDir()
		must(t, unix.Mount(src, src, "", unix.MS_BIND, ""))
		defer func() { must(t, unix.Unmount(src, unix.MNT_DETACH)) }()
		must(t, unix.Mount("", src, "", unix.MS_SHARED, ""))
		must(t, os.Mkdir(filepath.Join(src, "later"), 0o755))
		in, out := pipe(t)
		b := bundle(t, "/bin/sh", "-c", "read x; ls /data/later")
		b.Spec.Mounts = append(b.Spec.Mounts, specs.Mount{
			Destination: "/data", Type: "bind", Source: src, Options: []string{"rbind", "rslave"},
		})
		or, ow := pipe(t)
		p, err := r.Create(t.Context(), b, Stdio{Stdin: in, Stdout: ow})
		must(t, err)
		ow.Close()
		defer func() { must(t, r.Delete(t.Context(), p)); p.PIDFD.Close() }()
		must(t, r.Start(t.Context(), p))
		must(t, unix.Mount("x", filepath.Join(src, "later"), "tmpfs", 0, "size=64k"))
		must(t, os.WriteFile(filepath.Join(src, "later/seen"), nil, 0o644))
		_, err = out.WriteString("go\n")
		must(t, err)
		buf := make([]byte, 20)
		n, _ := or.Read(buf)
		if string(buf[:n]) != "seen\n" {
			t.Errorf("the container saw %q", buf[:n])
		}
		wait(t, p)
	})
}

func TestIdmappedMount(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		src := t.TempDir()
		must(t, os.Chmod(src, 0o755))
		must(t, os.WriteFile(filepath.Join(src, "f"), nil, 0o644))
		must(t, os.Chown(filepath.Join(src, "f"), 1000, 1001))
		maps := []specs.LinuxIDMapping{{ContainerID: 1000, HostID: 5000, Size: 10}}
		b := bundle(t, "/bin/stat", "-c", "%u %g", "/data/f")
		b.Spec.Mounts = append(b.Spec.Mounts, specs.Mount{
			Destination: "/data", Type: "bind", Source: src, Options: []string{"bind", "idmap"},
			UIDMappings: maps, GIDMappings: maps,
		})
		o, err := tryRun(t, r, b)
		if errors.Is(err, unix.EINVAL) {
			t.Skip("the filesystem of the test's directory has no idmapped mounts")
		}
		must(t, err)
		want(t, o, 0, "5000 5001")
	})
}

func TestRefusedMounts(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		src := t.TempDir()
		for _, c := range []struct {
			name  string
			mount specs.Mount
			class error
		}{
			{"over the root", specs.Mount{Destination: "/", Type: "tmpfs"}, errdefs.ErrInvalidArgument},
			{"dots to the root", specs.Mount{Destination: "/a/../..", Type: "tmpfs"}, errdefs.ErrInvalidArgument},
			{"tmpfs over proc", specs.Mount{Destination: "/proc", Type: "tmpfs"}, errdefs.ErrInvalidArgument},
			{"bind over proc", specs.Mount{Destination: "/proc", Type: "bind", Source: src}, errdefs.ErrInvalidArgument},
			{"inside of proc", specs.Mount{Destination: "/proc/sys/kernel", Type: "bind", Source: src}, errdefs.ErrInvalidArgument},
			{"attributes", specs.Mount{Destination: "/proc/self/attr", Type: "tmpfs"}, errdefs.ErrInvalidArgument},
			{"dots into proc", specs.Mount{Destination: "/x/../proc/self", Type: "tmpfs"}, errdefs.ErrInvalidArgument},
			{"no source", specs.Mount{Destination: "/x", Type: "bind", Source: filepath.Join(src, "none")}, unix.ENOENT},
			{"unknown filesystem", specs.Mount{Destination: "/x", Type: "nosuchfs"}, unix.ENODEV},
			{"no type", specs.Mount{Destination: "/x"}, errdefs.ErrInvalidArgument},
			{"unknown option", specs.Mount{Destination: "/x", Type: "tmpfs", Options: []string{"nosuchoption=1"}}, unix.EINVAL},
		} {
			t.Run(c.name, func(t *testing.T) {
				b := bundle(t, "/bin/true")
				b.Spec.Mounts = append(b.Spec.Mounts, c.mount)
				if _, err := tryRun(t, r, b); !errors.Is(err, c.class) {
					t.Errorf("got %v, want %v", err, c.class)
				}
			})
		}
	})
}
