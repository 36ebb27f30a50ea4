package cdi

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const vendorYAML = `
cdiVersion: 0.6.0
kind: vendor.com/device
containerEdits:
  env: [SHARED=1]
  additionalGids: [44, 44, 0]
devices:
  - name: first
    containerEdits:
      env: [PATH=/vendor, ONE=1]
      deviceNodes:
        - path: /dev/vendor0
          hostPath: /dev/null
          permissions: rw
      mounts:
        - {hostPath: /etc, containerPath: /vendor, options: [ro, bind]}
      hooks:
        - {hookName: createRuntime, path: /bin/true, args: [true], timeout: 3}
  - name: second
    containerEdits:
      deviceNodes:
        - {path: /dev/vendor1, type: c, major: 1, minor: 5, fileMode: 0640, uid: 7}
`

// dir makes a directory of specification files.
func dir(t *testing.T, files map[string]string) string {
	t.Helper()
	d := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(d, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func TestApply(t *testing.T) {
	c := Read([]string{dir(t, map[string]string{"vendor.yaml": vendorYAML})})
	if len(c.Problems) > 0 {
		t.Fatal(c.Problems)
	}
	s := &specs.Spec{
		Process: &specs.Process{Env: []string{"PATH=/bin", "HOME=/"}, User: specs.User{UID: 5}},
		Mounts:  []specs.Mount{{Destination: "/vendor", Type: "tmpfs"}},
	}
	if err := c.Apply(s, []string{"vendor.com/device=first", "vendor.com/device=second", "vendor.com/device=first"}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"PATH=/vendor", "HOME=/", "SHARED=1", "ONE=1"}; !slices.Equal(s.Process.Env, want) {
		t.Errorf("variables %q, want %q", s.Process.Env, want)
	}
	if want := []uint32{44}; !slices.Equal(s.Process.User.AdditionalGids, want) {
		t.Errorf("groups %v, want %v", s.Process.User.AdditionalGids, want)
	}
	if want := []specs.Mount{{Source: "/etc", Destination: "/vendor", Type: "bind", Options: []string{"ro", "bind"}}}; !cmp.Equal(s.Mounts, want) {
		t.Errorf("mounts: %s", cmp.Diff(want, s.Mounts))
	}
	if h := s.Hooks.CreateRuntime; len(h) != 1 || h[0].Path != "/bin/true" || *h[0].Timeout != 3 {
		t.Errorf("hooks %+v", s.Hooks)
	}
	if len(s.Linux.Devices) != 2 {
		t.Fatalf("devices %+v", s.Linux.Devices)
	}
	null, second := s.Linux.Devices[0], s.Linux.Devices[1]
	if null.Path != "/dev/vendor0" || null.Type != "c" || null.Major != 1 || null.Minor != 3 || *null.UID != 5 {
		t.Errorf("%+v, want the host's null", null)
	}
	if second.Minor != 5 || *second.FileMode != 0o640 || *second.UID != 7 {
		t.Errorf("%+v", second)
	}
	rules := s.Linux.Resources.Devices
	if len(rules) != 2 || rules[0].Access != "rw" || *rules[0].Minor != 3 || rules[1].Access != "rwm" {
		t.Errorf("rules %+v", rules)
	}
}

// A later directory goes before an earlier one; within one directory nobody knows which is meant.
func TestPrecedence(t *testing.T) {
	one := func(value string) string {
		return `{"cdiVersion":"0.5.0","kind":"v.com/c","devices":[{"name":"a","containerEdits":{"env":["V=` + value + `"]}}]}`
	}
	low, high := dir(t, map[string]string{"a.json": one("low")}), dir(t, map[string]string{"a.json": one("high")})
	twice := dir(t, map[string]string{"a.json": one("x"), "b.json": one("y")})
	s := new(specs.Spec)
	if err := Read([]string{low, "/nonexistent", high}).Apply(s, []string{"v.com/c=a"}); err != nil || s.Process.Env[0] != "V=high" {
		t.Errorf("%v, %v", s.Process, err)
	}
	c := Read([]string{twice})
	if len(c.Names()) != 0 || len(c.Problems) != 1 || !strings.Contains(c.Problems[0].Error(), "is defined in") {
		t.Errorf("%v, %v", c.Names(), c.Problems)
	}
}

func TestHostileFiles(t *testing.T) {
	device := `"devices":[{"name":"a","containerEdits":{"env":["A=1"]}}]`
	files := map[string]string{
		"empty.yaml":     "",
		"text.json":      "hello",
		"bomb.yaml":      "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n",
		"big.json":       `{"x":"` + strings.Repeat("x", maxFile) + `"}`,
		"version.json":   `{"cdiVersion":"9.0.0","kind":"v.com/c",` + device + `}`,
		"noversion.json": `{"kind":"v.com/c",` + device + `}`,
		"kind.json":      `{"cdiVersion":"0.5.0","kind":"../c",` + device + `}`,
		"field.json":     `{"cdiVersion":"0.5.0","kind":"v.com/c","surprise":1,` + device + `}`,
		"tail.json":      `{"cdiVersion":"0.5.0","kind":"v.com/c",` + device + `} {}`,
		"two.yaml":       vendorYAML + "\n---\n" + vendorYAML,
		"none.json":      `{"cdiVersion":"0.5.0","kind":"v.com/c","devices":[]}`,
		"noedits.json":   `{"cdiVersion":"0.5.0","kind":"v.com/c","devices":[{"name":"a"}]}`,
		"name.json":      `{"cdiVersion":"0.5.0","kind":"v.com/c","devices":[{"name":"a=b","containerEdits":{"env":["A=1"]}}]}`,
		"twice.json":     `{"cdiVersion":"0.5.0","kind":"v.com/c","devices":[{"name":"a","containerEdits":{"env":["A=1"]}},{"name":"a","containerEdits":{"env":["A=1"]}}]}`,
		"env.json":       `{"cdiVersion":"0.5.0","kind":"v.com/c","devices":[{"name":"a","containerEdits":{"env":["A"]}}]}`,
		"escape.json":    `{"cdiVersion":"0.5.0","kind":"v.com/c","devices":[{"name":"a","containerEdits":{"deviceNodes":[{"path":"/dev/../../etc/x"}]}}]}`,
		"mount.json":     `{"cdiVersion":"0.5.0","kind":"v.com/c","devices":[{"name":"a","containerEdits":{"mounts":[{"hostPath":"/etc","containerPath":"/"}]}}]}`,
		"hook.json":      `{"cdiVersion":"0.5.0","kind":"v.com/c","devices":[{"name":"a","containerEdits":{"hooks":[{"hookName":"sometimes","path":"/bin/true"}]}}]}`,
		"access.json":    `{"cdiVersion":"0.5.0","kind":"v.com/c","devices":[{"name":"a","containerEdits":{"deviceNodes":[{"path":"/dev/x","permissions":"rx"}]}}]}`,
	}
	d := dir(t, files)
	if err := syscall.Mkfifo(filepath.Join(d, "pipe.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d, "good.yaml"), []byte(vendorYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Read([]string{d})
	bad := map[string]bool{}
	for _, p := range c.Problems {
		bad[filepath.Base(p.File)] = true
	}
	for name := range files {
		if !bad[name] {
			t.Errorf("%s was accepted", name)
		}
	}
	if !bad["pipe.json"] || bad["good.yaml"] {
		t.Errorf("problems: %v", c.Problems)
	}
	if want := []string{"vendor.com/device=first", "vendor.com/device=second"}; !slices.Equal(c.Names(), want) {
		t.Errorf("devices %q, want %q", c.Names(), want)
	}
}

func TestRefusedByName(t *testing.T) {
	for field, text := range map[string]string{
		"intelRdt":   `{"cdiVersion":"0.7.0","kind":"v.com/c","devices":[{"name":"a","containerEdits":{"intelRdt":{"closID":"x"}}}]}`,
		"netDevices": `{"cdiVersion":"1.1.0","kind":"v.com/c","devices":[{"name":"a","containerEdits":{"netDevices":[{"hostInterfaceName":"eth9","name":"e"}]}}]}`,
	} {
		c := Read([]string{dir(t, map[string]string{"a.json": text})})
		err := c.Apply(new(specs.Spec), []string{"v.com/c=a"})
		if !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func gpus(n ...string) string {
	f := map[string]any{"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu"}
	var list []any
	for _, name := range n {
		list = append(list, map[string]any{"name": name, "containerEdits": map[string]any{"env": []string{"GPU_" + name + "=1"}}})
	}
	f["devices"] = list
	raw, _ := json.Marshal(f)
	return string(raw)
}

func TestChoose(t *testing.T) {
	gpu := [][]string{{"gpu"}}
	two := []string{"0", "1", "10", "GPU-abc"}
	for _, tc := range []struct {
		name    string
		have    []string
		request Request
		want    string
		fault   string
	}{
		{"all, by a device for all", []string{"0", "1", "all"}, Request{Count: -1, Capabilities: gpu}, "nvidia.com/gpu=all", ""},
		{"all, one by one", two, Request{Count: -1, Capabilities: gpu}, "nvidia.com/gpu=0 nvidia.com/gpu=1 nvidia.com/gpu=10", ""},
		{"two", two, Request{Driver: "nvidia", Count: 2, Capabilities: gpu}, "nvidia.com/gpu=0 nvidia.com/gpu=1", ""},
		{"too many", two, Request{Count: 4, Capabilities: gpu}, "", "cannot give the container 4 GPUs"},
		{"by id", two, Request{IDs: []string{"GPU-abc", "1"}, Capabilities: gpu}, "nvidia.com/gpu=GPU-abc nvidia.com/gpu=1", ""},
		{"by name", two, Request{Driver: "cdi", IDs: []string{"nvidia.com/gpu=1"}}, "nvidia.com/gpu=1", ""},
		{"no files", nil, Request{Count: -1, Capabilities: gpu}, "", "no specification file in"},
		{"foreign driver", two, Request{Driver: "tpu", Count: 1, Capabilities: [][]string{{"tpu"}}}, "", `device driver "tpu" with capabilities: [[tpu]]`},
		{"count and ids", two, Request{Count: 1, IDs: []string{"1"}, Capabilities: gpu}, "", "both Count and DeviceIDs"},
		{"cdi without a name", two, Request{Driver: "cdi"}, "", "names no devices"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			files := map[string]string{}
			if tc.have != nil {
				files["nvidia.json"] = gpus(tc.have...)
			}
			got, err := Read([]string{dir(t, files)}).Choose(tc.request)
			if tc.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fault) {
					t.Fatalf("%v, want %q in it", err, tc.fault)
				}
				return
			}
			if err != nil || strings.Join(got, " ") != tc.want {
				t.Errorf("%q, %v, want %q", got, err, tc.want)
			}
		})
	}
}

// What cannot be had is said with where it was looked for, and what is wrong there.
func TestMissing(t *testing.T) {
	d := dir(t, map[string]string{"vendor.yaml": vendorYAML, "broken.json": "{"})
	err := Read([]string{d}).Apply(new(specs.Spec), []string{"vendor.com/device=third"})
	for _, part := range []string{"vendor.com/device=third", d, "vendor.com/device=first, vendor.com/device=second", "broken.json"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v, want %q in it", err, part)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(vendorYAML), true)
	f.Add([]byte(gpus("0", "all")), false)
	f.Fuzz(func(t *testing.T, raw []byte, isYAML bool) {
		one, err := parse(raw, isYAML)
		if err != nil {
			return
		}
		s := new(specs.Spec)
		for i := range one.Devices {
			if err := one.Devices[i].Edits.apply(s); err != nil {
				continue
			}
		}
		for _, m := range s.Mounts {
			if !filepath.IsAbs(m.Destination) || strings.Contains(m.Destination, "/../") {
				t.Errorf("mount at %q", m.Destination)
			}
		}
	})
}
