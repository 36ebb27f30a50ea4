package task

import (
	"encoding/json"
	"fmt"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// typical is a container's specification with docker's defaults.
func typical() *specs.Spec {
	caps := []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
		"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
	s := &specs.Spec{
		Version: specs.Version, Hostname: "web", Root: &specs.Root{Path: "/"},
		Process: &specs.Process{
			Args: []string{"/bin/sh", "-c", "exec server --port 80"}, Cwd: "/",
			Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=web", "HOME=/root"},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
		},
		Linux: &specs.Linux{
			CgroupsPath: "/kist/x", Namespaces: []specs.LinuxNamespace{{Type: "mount"}, {Type: "pid"}, {Type: "ipc"}, {Type: "uts"}, {Type: "network"}},
			Resources: &specs.LinuxResources{},
			Seccomp:   profile(),
		},
	}
	for i := range 12 {
		s.Mounts = append(s.Mounts, specs.Mount{
			Destination: fmt.Sprintf("/some/place/%d", i), Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "nodev", "mode=755"},
		})
		s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, fmt.Sprintf("/proc/masked%d", i))
		s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Access: "rwm"})
	}
	return s
}

func profile() *specs.LinuxSeccomp {
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86}}
	var names []string
	for i := range 350 {
		names = append(names, fmt.Sprintf("a_system_call_%d", i))
	}
	errno := uint(1)
	p.Syscalls = []specs.LinuxSyscall{
		{Names: names, Action: specs.ActAllow},
		{Names: []string{"personality"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Value: 8, Op: specs.OpEqualTo}}},
		{Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: &errno},
	}
	return p
}

func TestProfileKey(t *testing.T) {
	key := profileKey(profile())
	if again := profileKey(profile()); again != key || len(key) != 32 {
		t.Errorf("keys %s and %s of equal profiles", key, again)
	}
	changes := []func(p *specs.LinuxSeccomp){
		func(p *specs.LinuxSeccomp) { p.DefaultAction = specs.ActAllow },
		func(p *specs.LinuxSeccomp) { n := uint(38); p.DefaultErrnoRet = &n },
		func(p *specs.LinuxSeccomp) { p.Architectures = p.Architectures[:1] },
		func(p *specs.LinuxSeccomp) { p.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog} },
		func(p *specs.LinuxSeccomp) { p.ListenerPath = "/x" },
		func(p *specs.LinuxSeccomp) { p.Syscalls[0].Names = p.Syscalls[0].Names[1:] },
		func(p *specs.LinuxSeccomp) { p.Syscalls[0].Action = specs.ActLog },
		func(p *specs.LinuxSeccomp) { p.Syscalls[1].Args[0].Value = 9 },
		func(p *specs.LinuxSeccomp) { p.Syscalls[1].Args[0].Op = specs.OpNotEqual },
		func(p *specs.LinuxSeccomp) { p.Syscalls[2].ErrnoRet = nil },
		func(p *specs.LinuxSeccomp) { p.Syscalls = p.Syscalls[:2] },
	}
	for i, change := range changes {
		p := profile()
		change(p)
		if profileKey(p) == key {
			t.Errorf("change %d is not in the key", i)
		}
	}
}

// BenchmarkCreateMessage is what a Create's way through the socket costs beside the round trip itself.
func BenchmarkCreateMessage(b *testing.B) {
	s := typical()
	b.Run("key", func(b *testing.B) {
		for b.Loop() {
			profileKey(s.Linux.Seccomp)
		}
	})
	spec, linux := *s, *s.Linux
	linux.Seccomp, spec.Linux = nil, &linux
	body, err := json.Marshal(CreateMessage{ID: "x", Spec: &spec})
	if err != nil {
		b.Fatal(err)
	}
	b.Run(fmt.Sprintf("encode-%d", len(body)), func(b *testing.B) {
		for b.Loop() {
			_, _ = json.Marshal(CreateMessage{ID: "x", Spec: &spec})
		}
	})
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			var m CreateMessage
			if err := json.Unmarshal(body, &m); err != nil {
				b.Fatal(err)
			}
		}
	})
}
