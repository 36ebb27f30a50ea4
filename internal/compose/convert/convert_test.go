package convert

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/kistdev/kist/internal/compose/model"
	"github.com/kistdev/kist/internal/testbed/suite"
)

// read loads a file of testdata, whose directory is / in what comes of it.
func read(t *testing.T, file string) *types.Project {
	t.Helper()
	t.Setenv("KIST_TEST_SECRET", "hunter2")
	p, err := (&model.Options{Files: []string{file}, Profiles: []string{"*"}}).Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestRequests converts each service, network and volume of the files in testdata.
func TestRequests(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			p := read(t, file)
			got := map[string]any{}
			for _, name := range p.ServiceNames() {
				in := &Input{
					Project: p, Service: Resolve(p.Services[name], func(s string) (string, bool) { return "id-of-" + s, s != "absent" }),
					Number: 1, Labels: types.Labels{model.LabelHash: "hash"}, Proxies: []string{"HTTP_PROXY=http://proxy", "no_proxy=x"},
					ReadFile: func(string) ([]byte, error) { return []byte("{ \"a\": 1 }"), nil },
				}
				r, err := Container(in)
				if err != nil {
					got["service "+name] = err.Error()
					continue
				}
				got["service "+name] = r
			}
			for key := range p.Networks {
				r, err := Network(p, key)
				if err != nil {
					t.Fatal(err)
				}
				got["network "+key] = r
			}
			for key := range p.Volumes {
				r, err := Volume(p, key)
				if err != nil {
					t.Fatal(err)
				}
				got["volume "+key] = r
			}
			golden(t, file, p.WorkingDir, got)
		})
	}
}

// golden compares what is set of the requests that a file's project becomes.
func golden(t *testing.T, file, dir string, got map[string]any) {
	t.Helper()
	raw, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(raw, &tree); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(set(tree)); err != nil {
		t.Fatal(err)
	}
	suite.Golden(t, strings.TrimSuffix(filepath.Base(file), ".yaml")+".golden", strings.ReplaceAll(b.String(), dir, ""))
}

// set takes out of a tree the fields that have no value: a list without elements is one, and so is an empty entry of a map.
func set(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range maps.Clone(v) {
			v[k] = set(v[k])
			if field := k[0] >= 'A' && k[0] <= 'Z'; field && empty(v[k]) {
				delete(v, k)
			}
		}
	case []any:
		for i := range v {
			v[i] = set(v[i])
		}
	}
	return v
}

func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		return len(v) == 0
	case string:
		return v == ""
	case float64:
		return v == 0
	case bool:
		return !v
	}
	return false
}

func project(t *testing.T, text string) *types.Project {
	t.Helper()
	file := filepath.Join(t.TempDir(), "compose.yaml")
	if err := os.WriteFile(file, []byte("name: p\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	return read(t, file)
}

func TestRefused(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"provider", "services: {a: {provider: {type: x}}}", "provider is not served"},
		{"credentials of Windows", "services: {a: {image: x, credential_spec: {file: x}}}", "credential_spec is not served"},
		{"address", "services: {a: {image: x, networks: {default: {ipv4_address: 10.0.0.300}}}}", "ipv4_address"},
		{"MAC address", "services: {a: {image: x, mac_address: zz}}", "mac_address"},
		{"two MAC addresses", "services: {a: {image: x, mac_address: '02:00:00:00:00:01', networks: {default: {mac_address: '02:00:00:00:00:02'}}}}", "mac_address is"},
		{"name server", "services: {a: {image: x, dns: nowhere}}", "dns \"nowhere\""},
		{"secret of Swarm", "services: {a: {image: x, secrets: [s]}}\nsecrets: {s: {external: true}}", "only Swarm has"},
		{"secret that is not set", "services: {a: {image: x, secrets: [s]}}\nsecrets: {s: {environment: KIST_TEST_UNSET}}", "KIST_TEST_UNSET is not set"},
		{"volume of a cluster", "services: {a: {image: x, volumes: [{type: cluster, source: x, target: /x}]}}", "type cluster is not served"},
		{"security", "services: {a: {image: x, security_opt: [nonsense]}}", "security_opt"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := project(t, test.text)
			_, err := Container(&Input{Project: p, Service: p.Services["a"], Number: 1})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if !errdefs.IsNotImplemented(err) && !errdefs.IsInvalidArgument(err) {
				t.Errorf("%v has no class", err)
			}
		})
	}
}

func TestUnreadableProfile(t *testing.T) {
	p := project(t, "services: {a: {image: x, security_opt: ['seccomp=profile.json']}}")
	broken := errors.New("broken")
	_, err := Container(&Input{Project: p, Service: p.Services["a"], ReadFile: func(string) ([]byte, error) { return nil, broken }})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// TestKeptVolumes is about the volumes without a name of the container whose place another one takes.
func TestKeptVolumes(t *testing.T) {
	p := project(t, "services: {a: {image: x, volumes: [/own, 'named:/named', '/host:/bound']}}\nvolumes: {named: {}}")
	kept := []container.MountPoint{
		{Type: mount.TypeVolume, Name: "one", Destination: "/own", RW: true},
		{Type: mount.TypeVolume, Name: "two", Destination: "/image"},
		{Type: mount.TypeVolume, Name: "old", Destination: "/named", RW: true},
		{Type: mount.TypeVolume, Name: "three", Destination: "/gone", RW: true},
		{Type: mount.TypeBind, Source: "/host", Destination: "/bound", RW: true},
	}
	r, err := Container(&Input{Project: p, Service: p.Services["a"], Number: 1, Kept: kept, ImageVolumes: map[string]struct{}{"/image": {}, "/named": {}}})
	if err != nil {
		t.Fatal(err)
	}
	want := []mount.Mount{
		{Type: mount.TypeVolume, Source: "two", Target: "/image", ReadOnly: true}, {Type: mount.TypeVolume, Source: "one", Target: "/own"},
	}
	if d := cmp.Diff(want, r.HostConfig.Mounts); d != "" {
		t.Error(d)
	}
	if want := []string{"p_named:/named:rw", "/host:/bound:rw"}; !slices.Equal(r.HostConfig.Binds, want) {
		t.Errorf("binds %v, want %v", r.HostConfig.Binds, want)
	}
}

func TestBeside(t *testing.T) {
	p := project(t, "services: {a: {image: x, ports: ['80:80', '81', '8000-8010:82'], networks: {default: {aliases: [b]}}}}")
	r, err := Container(&Input{Project: p, Service: p.Services["a"], Number: 1, Beside: true})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(r.HostConfig.PortBindings); n != 2 {
		t.Errorf("%d bindings: %v", n, r.HostConfig.PortBindings)
	}
	for name, e := range r.NetworkingConfig.EndpointsConfig {
		if len(e.Aliases) > 0 {
			t.Errorf("names on %s: %v", name, e.Aliases)
		}
	}
	if len(r.ExposedPorts) != 3 {
		t.Errorf("exposed: %v", r.ExposedPorts)
	}
}
