package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestHooks(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		log := filepath.Join(t.TempDir(), "log")
		hook := func(name string) []specs.Hook {
			return []specs.Hook{{
				Path: "/bin/sh", Args: []string{"sh", "-c", "echo " + name + " $X >>" + log + "; cat >>" + log + "; echo >>" + log},
				Env: []string{"X=env"}, Timeout: ptr(5),
			}}
		}
		b := bundle(t, "/bin/true")
		b.Spec.Annotations = map[string]string{"k": "v"}
		b.Spec.Hooks = &specs.Hooks{
			Prestart: hook("prestart"), CreateRuntime: hook("createRuntime"), Poststart: hook("poststart"), Poststop: hook("poststop"), //nolint:staticcheck // deprecated, but in use
		}
		run(t, r, b)
		got, err := os.ReadFile(log)
		must(t, err)
		for i, l := range strings.Split(strings.TrimSpace(string(got)), "\n") {
			want := []string{"prestart env", `"status":"creating"`, "createRuntime env", `"status":"creating"`, "poststart env", `"status":"running"`, "poststop env", `"status":"stopped"`}[i]
			if !strings.Contains(l, want) || i%2 == 1 && !strings.Contains(l, b.ID) {
				t.Errorf("line %d is %q, want %q in it", i, l, want)
			}
		}
	})
}

func TestFailedHookEndsContainer(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		b := bundle(t, "/bin/true")
		b.Spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo why; exit 4"}}}}
		_, err := r.Create(t.Context(), b, Stdio{})
		if err == nil || !strings.Contains(err.Error(), "why") {
			t.Errorf("got %v", err)
		}
		if _, err := os.Stat("/sys/fs/cgroup/pids" + b.Spec.Linux.CgroupsPath); !os.IsNotExist(err) {
			t.Errorf("its control group is still there: %v", err)
		}
	})
}

// TestHooksInside has programs of the host change a container's files and mounts, as the vendors of devices do.
func TestHooksInside(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		b := bundle(t, "/bin/sh", "-c", "cat /etc/made; cat /tmp/mounted; wc -c </proc/version; touch /etc/mine")
		b.Spec.Root.Readonly = true
		b.Spec.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-ec", `
			grep -q '"root":{"path":"rootfs"' config.json
			echo made by a hook >rootfs/etc/made
			echo mounted by a hook >made
			touch rootfs/tmp/mounted
			mount --bind made rootfs/tmp/mounted
			mount --bind /dev/null rootfs/proc/version
		`}, Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}}}}
		o := run(t, r, b)
		if want := "made by a hook\nmounted by a hook\n0\n"; o.out != want || !strings.Contains(o.err, "Read-only") {
			t.Errorf("%+v; want %q, and a root filesystem that is read-only", o, want)
		}
		raw, err := os.ReadFile("/proc/self/mountinfo")
		must(t, err)
		if strings.Contains(string(raw), "kist-hooks-") {
			t.Error("the bundle is mounted on the host")
		}
		if left, err := filepath.Glob(filepath.Join(os.TempDir(), "kist-hooks-*")); err != nil || len(left) > 0 {
			t.Errorf("left: %q, %v", left, err)
		}
	})
}
