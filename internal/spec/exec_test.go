package spec

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestExecProcess(t *testing.T) {
	in := base()
	in.HostConfig.Umask = ptr(uint32(0o77))
	in.HostConfig.OomScoreAdj = 7
	in.HostConfig.SecurityOpt = []string{"no-new-privileges"}
	s, _, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := json.Marshal(s)
	r := container.ExecCreateRequest{
		Cmd: []string{"ps"}, Env: []string{"LANG=D", "X=1", "PATH"}, Tty: true, ConsoleSize: &[2]uint{3, 4}, WorkingDir: "/tmp/",
	}
	p, err := ExecProcess(s, in.Config, r, User{UID: 5, GID: 6, Home: "/home/five"}, in.Host)
	if err != nil {
		t.Fatal(err)
	}
	want := &specs.Process{
		Terminal: true, ConsoleSize: &specs.Box{Height: 3, Width: 4}, Args: []string{"ps"}, Cwd: "/tmp",
		User:            specs.User{UID: 5, GID: 6, Umask: ptr(uint32(0o77)), AdditionalGids: []uint32{6}},
		Env:             []string{"HOSTNAME=0123456789ab", "LANG=D", "TERM=xterm", "X=1", "HOME=/home/five"},
		Capabilities:    newCapabilities(defaultCapabilities),
		NoNewPrivileges: true,
		OOMScoreAdj:     ptr(7),
	}
	if d := cmp.Diff(want, p); d != "" {
		t.Error(d)
	}
	p.Capabilities.Bounding[0], *p.OOMScoreAdj = "x", 0
	if after, _ := json.Marshal(s); string(after) != string(before) {
		t.Error("the container's specification changed with the exec's")
	}
}

func TestExecPrivilegedAndHome(t *testing.T) {
	in := base()
	in.Config.Env = []string{"HOME=/mine"}
	in.Host.AppArmor, in.Host.AppArmorProfiles = true, []string{"docker-default"}
	s, _, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	if s.Process.ApparmorProfile != "docker-default" {
		t.Errorf("profile %q", s.Process.ApparmorProfile)
	}
	p, err := ExecProcess(s, in.Config, container.ExecCreateRequest{Cmd: []string{"x"}, Privileged: true}, User{Home: "/root"}, in.Host)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(p.Env, "HOME=/mine") || p.ApparmorProfile != "unconfined" || len(p.Capabilities.Effective) != len(allCapabilities) {
		t.Errorf("%+v", p)
	}
}

func TestExecRefused(t *testing.T) {
	in := base()
	s, _, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []container.ExecCreateRequest{{}, {Cmd: []string{""}}, {Cmd: []string{"x"}, WorkingDir: "rel"}} {
		if _, err := ExecProcess(s, in.Config, r, User{}, in.Host); err == nil {
			t.Errorf("%+v was taken", r)
		}
	}
}

func TestDefaultsAndValidate(t *testing.T) {
	h := testHost()
	hc := &container.HostConfig{Resources: container.Resources{Memory: 8 << 20, CPUShares: 1}}
	Defaults(hc, h)
	if hc.MemorySwap != 16<<20 || hc.ShmSize != 64<<20 || hc.IpcMode != "private" || hc.CgroupnsMode != "host" ||
		hc.Runtime != "runc" || hc.CPUShares != 2 || len(hc.MaskedPaths) == 0 || len(hc.ReadonlyPaths) == 0 {
		t.Errorf("%+v", hc)
	}
	if w, err := Validate(&container.Config{Cmd: []string{"x"}}, hc, h); err != nil || len(w) != 0 {
		t.Errorf("defaults are not valid: %q, %v", w, err)
	}
	h.CgroupV2 = true
	hc = &container.HostConfig{Privileged: true}
	Defaults(hc, h)
	if hc.CgroupnsMode != "private" || hc.MaskedPaths != nil || hc.ReadonlyPaths != nil {
		t.Errorf("%+v", hc)
	}
	if _, err := Validate(nil, nil, h); err != nil {
		t.Error(err)
	}
	hc = &container.HostConfig{UTSMode: "host"}
	if _, err := Validate(&container.Config{Hostname: "x"}, hc, h); err == nil {
		t.Error("a hostname was taken with the host's UTS namespace")
	}
	hc = &container.HostConfig{Tmpfs: map[string]string{"/x": "bogus"}}
	if _, err := Validate(nil, hc, h); err == nil {
		t.Error("a bad tmpfs option was taken")
	}
}

func TestValidateUpdate(t *testing.T) {
	h := testHost()
	if _, _, err := ValidateUpdate(container.Resources{Memory: 1}, h); err == nil {
		t.Error("a limit of one byte was taken")
	}
	r, w, err := ValidateUpdate(container.Resources{MemorySwap: 64 << 20}, h)
	if err != nil || len(w) != 0 || r.MemorySwap != 64<<20 {
		t.Errorf("%+v, %q, %v", r, w, err)
	}
	res, err := Resources(container.Resources{PidsLimit: ptr(int64(-1))}, nil)
	if err != nil || *res.Pids.Limit != -1 || res.Memory != nil || res.CPU != nil || res.BlockIO != nil {
		t.Errorf("%+v, %v", res, err)
	}
}
