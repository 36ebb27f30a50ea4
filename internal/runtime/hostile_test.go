package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// What past runtimes were broken by. Each test is named by what the attacker does.

// CVE-2019-5736: the image makes the runtime's own file run in the container, and overwrites it afterwards.
func TestRuntimesFileCannotBeOverwritten(t *testing.T) {
	self, err := os.Readlink("/proc/self/exe")
	must(t, err)
	executors(t, func(t *testing.T, r *Runtime) {
		for _, c := range []struct {
			name string
			low  func(low string)
		}{
			{"link", func(low string) { must(t, os.Symlink("/proc/self/exe", filepath.Join(low, "bin/evil"))) }},
			{"script", func(low string) {
				must(t, os.WriteFile(filepath.Join(low, "bin/evil"), []byte("#!/proc/self/exe\n"), 0o755))
			}},
		} {
			t.Run(c.name, func(t *testing.T) {
				before, err := os.ReadFile(self)
				if err != nil {
					before, err = os.ReadFile("/proc/self/exe")
				}
				must(t, err)
				b := bundle(t, "/bin/evil", childName)
				c.low(b.Rootfs.Lower[0])
				b.Spec.Process.Env = append(b.Spec.Process.Env, "KIST_TEST_EVIL=1")
				o, err := tryRun(t, r, b)
				if errors.Is(err, unix.ENOENT) {
					t.Skip("this test program is not static: build it with CGO_ENABLED=0")
				}
				// Where the file ran at all, it tried to write itself (see TestMain) and told how that went.
				if err == nil && !strings.Contains(o.out, "cannot write") {
					t.Errorf("the runtime's file: exit %d, %q %q", o.code, o.out, o.err)
				}
				after, err := os.ReadFile("/proc/self/exe")
				must(t, err)
				if !bytes.Equal(before, after) {
					t.Fatal("the runtime's file has changed")
				}
			})
		}
	})
}

// evil is what the runtime's file does when an image has made it run inside of a container: it tries to change itself.
// To write has to wait until nobody runs the file any more, this test's process included, so it asks for less: a mode is
// changed by everybody who could write later. A sealed copy in memory is worth nothing to it.
func evil() {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		fmt.Println("cannot open", err)
		return
	}
	if seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0); err == nil && seals&unix.F_SEAL_WRITE != 0 {
		fmt.Println("cannot write a sealed copy")
		return
	}
	st, err := f.Stat()
	if err == nil {
		err = f.Chmod(st.Mode())
	}
	if errors.Is(err, unix.EROFS) {
		fmt.Println("cannot write a read-only mount")
		return
	}
	fmt.Println("can write:", err)
}

// CVE-2019-19921: /proc is a link to a directory of the image, so that labels and sysctls go nowhere.
func TestProcIsALink(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		for _, name := range []string{"proc", "sys"} {
			b := bundle(t, "/bin/true")
			top := b.Rootfs.Lower[0]
			must(t, os.Mkdir(filepath.Join(top, "evil"), 0o755))
			must(t, os.Symlink("/evil", filepath.Join(top, name)))
			if _, err := tryRun(t, r, b); !errors.Is(err, unix.ELOOP) {
				t.Errorf("/%s is a link: %v, want ELOOP", name, err)
			}
		}
	})
}

// CVE-2019-16884: a volume lies over /proc, and the label of the process is written into it. TestRefusedMounts has the
// mounts by the specification; here the volume comes in by a link of the image.
func TestMountThroughLinkIntoProc(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		src := t.TempDir()
		must(t, os.WriteFile(filepath.Join(src, "exec"), nil, 0o666))
		b := bundle(t, "/bin/sh", "-c", "cat /proc/sys/kernel/hostname")
		must(t, os.Symlink("/proc/sys", filepath.Join(b.Rootfs.Lower[0], "data")))
		b.Spec.Mounts = append(b.Spec.Mounts, specs.Mount{Destination: "/data/kernel", Type: "bind", Source: src})
		if _, err := tryRun(t, r, b); !errors.Is(err, unix.EPERM) {
			t.Errorf("got %v, want EPERM", err)
		}
	})
}

// CVE-2021-30465: a volume's content links the place of a second mount to the outside.
func TestMountTargetLinksOutside(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		vol, payload := t.TempDir(), t.TempDir()
		victim := t.TempDir()
		must(t, os.Chmod(payload, 0o755))
		must(t, os.WriteFile(filepath.Join(payload, "p"), nil, 0o644))
		for _, link := range []string{
			"/", "/../../../../..", victim, "/proc/self/root", "/proc/self/fd/3/../..", "/proc/1/root", "/proc/self/cwd/../..",
		} {
			name := filepath.Join(vol, "link")
			_ = os.Remove(name)
			must(t, os.Symlink(link, name))
			b := bundle(t, "/bin/true")
			b.Spec.Mounts = append(
				b.Spec.Mounts,
				specs.Mount{Destination: "/vol", Type: "bind", Source: vol, Options: []string{"rbind"}},
				specs.Mount{Destination: "/vol/link/target", Type: "bind", Source: payload, Options: []string{"rbind"}},
			)
			_, _ = tryRun(t, r, b) // refused or harmless
			for _, dir := range []string{"/target", filepath.Join(victim, "target")} {
				if _, err := os.Lstat(dir); err == nil {
					t.Errorf("link to %s: %s was made on the host", link, dir)
				}
			}
			mounts, err := os.ReadFile("/proc/self/mountinfo")
			must(t, err)
			if bytes.Contains(mounts, []byte(payload)) {
				t.Errorf("link to %s: the payload is mounted on the host", link)
			}
		}
	})
}

// CVE-2024-21626: the working directory is a descriptor that leads to the host.
func TestWorkingDirectoryIsADescriptor(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		for fd := range 12 {
			dir := "/proc/self/fd/" + strconv.Itoa(fd)
			b := bundle(t, "/bin/sh", "-c", "pwd; ls ..")
			b.Spec.Process.Cwd = dir
			if o, err := tryRun(t, r, b); err == nil {
				t.Errorf("%s: ran with %q", dir, o.out)
			}
			// The same by a link of the image.
			b = bundle(t, "/bin/sh", "-c", "pwd; ls ..")
			must(t, os.Symlink(dir, filepath.Join(b.Rootfs.Lower[0], "here")))
			b.Spec.Process.Cwd = "/here"
			if o, err := tryRun(t, r, b); err == nil {
				t.Errorf("link to %s: ran with %q", dir, o.out)
			}
		}
	})
}

// The same for a program, and for an exec into a container.
func TestExecWithWorkingDirectoryOfADescriptor(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		b := bundle(t, "/bin/sleep", "1000")
		p := background(t, r, b)
		for fd := range 12 {
			e := *b.Spec.Process
			e.Args = []string{"/bin/sh", "-c", "pwd; ls .."}
			e.Cwd = "/proc/self/fd/" + strconv.Itoa(fd)
			o, err := execIn(t, r, ExecTarget{PIDFD: p.PIDFD, PID: p.PID, Spec: b.Spec}, &e)
			if err == nil {
				t.Errorf("%s: ran with %q", e.Cwd, o.out)
			}
		}
	})
}

// Descriptors of this process do not reach the container, nor one that waits for its start.
func TestDescriptorsDoNotLeak(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		// One without close-on-exec, as a careless library may leave.
		fd, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0)
		must(t, err)
		defer unix.Close(fd)
		// 3 is what ls reads.
		want(t, run(t, r, bundle(t, "/bin/ls", "/proc/1/fd")), 0, "0\n1\n2\n3")
		b := bundle(t, "/bin/true")
		p, err := r.Create(t.Context(), b, Stdio{})
		must(t, err)
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.PID))
		must(t, err)
		for _, f := range fds {
			to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", p.PID, f.Name()))
			if n, _ := strconv.Atoi(f.Name()); n > 2 && !strings.HasPrefix(to, "socket:") && !r.slow {
				t.Errorf("a created container has descriptor %s: %s", f.Name(), to)
			}
		}
		must(t, r.Delete(t.Context(), p))
		wait(t, p)
		p.PIDFD.Close()
	})
}

// CVE-2025-31133: the image replaces the null device that masks are made of.
func TestNullDeviceOfTheImage(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		for _, what := range []string{"link", "file"} {
			b := bundle(t, "/bin/sh", "-c", "stat -c '%F %t %T' /dev/null; cat /proc/keys | wc -c; cat /evil")
			top := b.Rootfs.Lower[0]
			must(t, os.Mkdir(filepath.Join(top, "dev"), 0o755))
			must(t, os.WriteFile(filepath.Join(top, "evil"), []byte("evil"), 0o666))
			if what == "link" {
				must(t, os.Symlink("/evil", filepath.Join(top, "dev/null")))
			} else {
				must(t, os.WriteFile(filepath.Join(top, "dev/null"), nil, 0o666))
			}
			// Without a tmpfs over /dev the image's own directory is filled.
			var kept []specs.Mount
			for _, m := range b.Spec.Mounts {
				if m.Destination != "/dev" {
					kept = append(kept, m)
				}
			}
			b.Spec.Mounts = kept
			want(t, run(t, r, b), 0, "character special file 1 3\n0\nevil")
		}
	})
}

// CVE-2025-52565: the image's /dev/console or /dev/pts is a link to something that must not be written.
func TestConsoleOfTheImage(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		b := bundle(t, "/bin/sh", "-c", "stat -c %F /dev/console; mount | grep -c ' /proc/sys/kernel/core_pattern'")
		top := b.Rootfs.Lower[0]
		must(t, os.Mkdir(filepath.Join(top, "dev"), 0o755))
		must(t, os.Symlink("/proc/sys/kernel/core_pattern", filepath.Join(top, "dev/console")))
		b.Spec.Process.Terminal = true
		var kept []specs.Mount
		for _, m := range b.Spec.Mounts {
			if m.Destination != "/dev" {
				kept = append(kept, m)
			}
		}
		b.Spec.Mounts = kept
		p, err := r.Create(t.Context(), b, Stdio{})
		if err != nil {
			if !errors.Is(err, unix.ELOOP) {
				t.Errorf("got %v, want ELOOP or a console", err)
			}
			return
		}
		must(t, r.Start(t.Context(), p))
		if out := console(p); out != "character special file\n0\n" {
			t.Errorf("got %q", out)
		}
		wait(t, p)
		must(t, r.Delete(t.Context(), p))
		p.PIDFD.Close()
	})
}

// A terminal of an exec comes from a devpts, not from what the container put in its place.
func TestTerminalOfAFakeDevpts(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		b := bundle(t, "/bin/sh", "-c", "umount /dev/pts && mknod /dev/pts/ptmx c 1 3; echo ready; sleep 1000")
		more := append([]string{"CAP_SYS_ADMIN"}, defaultCaps...)
		b.Spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: more, Effective: more, Permitted: more}
		or, ow := pipe(t)
		p, err := r.Create(t.Context(), b, Stdio{Stdout: ow})
		must(t, err)
		defer func() {
			must(t, r.Delete(t.Context(), p))
			wait(t, p)
			p.PIDFD.Close()
		}()
		must(t, r.Start(t.Context(), p))
		_, err = or.Read(make([]byte, 10))
		must(t, err)
		e := *b.Spec.Process
		e.Args, e.Terminal = []string{"tty"}, true
		if _, err := r.Exec(t.Context(), ExecTarget{PIDFD: p.PIDFD, PID: p.PID, Spec: b.Spec}, &e, Stdio{}); err == nil {
			t.Error("a terminal from a null device")
		}
	})
}

// CVE-2025-52881: what is written to procfs goes to procfs, even where the container sees something else there.
func TestSysctlIsWrittenToProcfs(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		// The image links a kernel parameter's directory elsewhere, under a /proc that is not mounted.
		b := bundle(t, "/bin/cat", "/fake/sys/net/ipv4/ip_unprivileged_port_start")
		top := b.Rootfs.Lower[0]
		fake := filepath.Join(top, "fake/sys/net/ipv4")
		must(t, os.MkdirAll(fake, 0o755))
		must(t, os.WriteFile(filepath.Join(fake, "ip_unprivileged_port_start"), []byte("untouched"), 0o666))
		must(t, os.Symlink("/fake", filepath.Join(top, "proc")))
		var kept []specs.Mount
		for _, m := range b.Spec.Mounts {
			if m.Destination != "/proc" {
				kept = append(kept, m)
			}
		}
		b.Spec.Mounts = kept
		b.Spec.Linux.MaskedPaths, b.Spec.Linux.ReadonlyPaths = nil, nil
		b.Spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "99"}
		want(t, run(t, r, b), 0, "untouched")
	})
}

// A container that was created and not started does not outlive its parent.
func TestCreatedContainerEndsWithItsParent(t *testing.T) {
	needRoot(t)
	for _, executor := range []string{"fast", "plain"} {
		if executor == "fast" && !haveFast {
			continue
		}
		low := layer(t)
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "KIST_TEST_PARENT="+executor, "KIST_TEST_ROOT="+low)
		out, err := cmd.Output() // the parent kills itself
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Fatalf("%s: parent: %v: %s", executor, err, out)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
		if err != nil {
			t.Fatalf("%s: parent said %q", executor, out)
		}
		gone := false
		for range 200 {
			st, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err != nil || bytes.Contains(st, []byte(") Z ")) {
				gone = true
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if !gone {
			_ = unix.Kill(pid, unix.SIGKILL)
			t.Errorf("%s: the container lives on", executor)
		}
	}
}

// parent creates a container, says its pid and dies.
func parent(executor, root string) {
	r, err := New(Options{Executor: executor})
	if err != nil {
		fmt.Println(err)
		os.Exit(0)
	}
	spec := dockerSpec("parent", "/bin/true")
	spec.Linux.CgroupsPath, spec.Root.Path = "", root
	p, err := r.Create(context.Background(), Bundle{ID: "parent", Spec: spec}, Stdio{})
	if err != nil {
		fmt.Println(err)
		os.Exit(0)
	}
	fmt.Println(p.PID)
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
}
