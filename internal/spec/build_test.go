package spec

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kistdev/kist/internal/testbed/suite"
)

func ptr[T any](v T) *T { return &v }

// testHost is a machine with everything.
func testHost() Host {
	return Host{
		Capabilities: AllCapabilities(), Seccomp: true, KernelRelease: "6.18.0-test", Hostname: "machine", CPUs: 4,
		CpusetCpus: "0-3", CpusetMems: "0", Sysctls: []string{SysctlPing, SysctlPortStart},
		Devices: []specs.LinuxDevice{
			{Path: "/dev/null", Type: "c", Major: 1, Minor: 3, FileMode: ptr(os.FileMode(0o666)), UID: ptr(uint32(0)), GID: ptr(uint32(0))},
			{Path: "/dev/kvm", Type: "c", Major: 10, Minor: 232, FileMode: ptr(os.FileMode(0o660)), UID: ptr(uint32(0)), GID: ptr(uint32(108))},
		},
	}
}

const testID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// base is what `run debian sh` comes down to.
func base() Input {
	return Input{
		ID: testID, Name: "web", Host: testHost(), InitPath: "/usr/libexec/kist-init", User: User{Home: "/root"},
		Config:     &container.Config{Cmd: []string{"sh", "-c", "true"}, Env: []string{"LANG=C"}, Image: "debian"},
		HostConfig: &container.HostConfig{NetworkMode: "bridge"},
		Mounts: []specs.Mount{
			{Destination: "/etc/hosts", Type: "bind", Source: "/data/hosts", Options: []string{"rbind", "rprivate"}},
		},
	}
}

var golden = map[string]func(*Input){
	"default": func(*Input) {},
	"privileged": func(in *Input) {
		in.HostConfig.Privileged = true
		in.HostConfig.SecurityOpt = []string{"label=disable"}
	},
	"limits": func(in *Input) {
		in.HostConfig.Resources = container.Resources{
			Memory: 64 << 20, MemoryReservation: 32 << 20, NanoCPUs: 1_500_000_000, CPUShares: 512, CpusetCpus: "0-1", CpusetMems: "0",
			PidsLimit: ptr(int64(100)), BlkioWeight: 300, MemorySwappiness: ptr(int64(10)), OomKillDisable: ptr(true),
			BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: 1 << 20}},
			BlkioWeightDevice:  []*blkiodev.WeightDevice{{Path: "/dev/sda", Weight: 200}},
			Ulimits:            []*container.Ulimit{{Name: "nofile", Soft: 1024, Hard: 2048}, {Name: "core", Soft: -1, Hard: -1}},
		}
		in.HostConfig.OomScoreAdj = 500
		in.DeviceNumbers = map[string]specs.LinuxBlockIODevice{"/dev/sda": {Major: 8, Minor: 0}}
	},
	"tmpfs-readonly": func(in *Input) {
		in.HostConfig.ReadonlyRootfs = true
		in.HostConfig.Tmpfs = map[string]string{"/run": "", "/tmp/a": "exec,size=1m,mode=755"}
		in.HostConfig.ShmSize = 1 << 20
	},
	"user-tty": func(in *Input) {
		in.Config.Tty = true
		in.Config.User = "app"
		in.Config.WorkingDir = "/srv/../srv/app"
		in.Config.Env = []string{"PATH=/bin", "TERM", "HOME="}
		in.User = User{UID: 1000, GID: 1000, Groups: []uint32{20, 44}, Home: "/home/app"}
		in.HostConfig.ConsoleSize = [2]uint{24, 80}
		in.HostConfig.Umask = ptr(uint32(0o27))
	},
	"init-devices": func(in *Input) {
		in.HostConfig.Init = ptr(true)
		in.Devices = []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}}
		in.DeviceRules = []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Major: ptr(int64(10)), Minor: ptr(int64(229)), Access: "rwm"}}
		in.HostConfig.DeviceCgroupRules = []string{"c 188:* rw"}
	},
	"host-namespaces": func(in *Input) {
		in.HostConfig.NetworkMode = "host"
		in.HostConfig.PidMode = "host"
		in.HostConfig.IpcMode = "host"
		in.HostConfig.UTSMode = "host"
	},
	"join": func(in *Input) {
		in.HostConfig.NetworkMode = "container:other"
		in.HostConfig.PidMode = "container:other"
		in.HostConfig.IpcMode = "container:other"
		in.Join = map[specs.LinuxNamespaceType]string{
			specs.NetworkNamespace: "/proc/7/ns/net", specs.PIDNamespace: "/proc/7/ns/pid", specs.IPCNamespace: "/proc/7/ns/ipc",
		}
		in.Mounts = append(in.Mounts, specs.Mount{
			Destination: "/dev/shm", Type: "bind", Source: "/data/shm", Options: []string{"rbind"},
		})
	},
	"security": func(in *Input) {
		in.HostConfig.CapDrop = []string{"all"}
		in.HostConfig.CapAdd = []string{"net_admin", "CAP_CHOWN"}
		in.HostConfig.SecurityOpt = []string{
			"no-new-privileges", "apparmor=mine", "label=level:s0:c1,c2", "writable-cgroups=true",
			`seccomp={"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]},` +
				`{"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_X86"]}],` +
				`"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"},{"name":"chown","action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_CHOWN"]}},` +
				`{"names":["x"],"action":"SCMP_ACT_ALLOW","excludes":{"minKernel":"4.8"}},{"names":["y"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"7.1"}}]}`,
		}
		in.HostConfig.MaskedPaths = []string{}
		in.HostConfig.ReadonlyPaths = []string{"/proc/sys"}
		in.HostConfig.Sysctls = map[string]string{"net.core.somaxconn": "9", "kernel.msgmax": "1", "net/ipv4/conf/eth0.1/forwarding": "1"}
		in.Host.AppArmor, in.Host.SELinux, in.Host.SystemdCgroup, in.Host.CgroupV2 = true, true, true, true
		in.HostConfig.CgroupParent = "my.slice"
		in.HostConfig.Annotations = map[string]string{"a": "b"}
	},
}

func TestGolden(t *testing.T) {
	for name, change := range golden {
		t.Run(name, func(t *testing.T) {
			in := base()
			change(&in)
			s, warnings, err := Build(in)
			if err != nil {
				t.Fatal(err)
			}
			if len(warnings) > 0 && name != "limits" {
				t.Errorf("warnings: %q", warnings)
			}
			if name != "security" && s.Linux.Seccomp != nil {
				// Docker's profile is a library's; what is chosen from it is tested below.
				s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: s.Linux.Seccomp.DefaultAction}
			}
			if s.Linux.Seccomp != nil {
				s.Linux.Seccomp.Architectures = nil // the native one
			}
			got, err := json.MarshalIndent(s, "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			suite.Golden(t, name+".json", string(got)+"\n")
		})
	}
}

// TestRefusals: what is wrong is refused in docker's words.
func TestRefusals(t *testing.T) {
	for words, change := range map[string]func(*Input){
		"Minimum memory limit allowed is 6MB":                                func(in *Input) { in.HostConfig.Memory = 1 << 20 },
		"Minimum memoryswap limit should be larger than memory limit":        func(in *Input) { in.HostConfig.Memory, in.HostConfig.MemorySwap = 8<<20, 7<<20 },
		"You should always set the Memory limit when using Memoryswap limit": func(in *Input) { in.HostConfig.MemorySwap = 8 << 20 },
		"Minimum memory limit can not be less than memory reservation limit": func(in *Input) { in.HostConfig.Memory, in.HostConfig.MemoryReservation = 8<<20, 9<<20 },
		"valid memory swappiness range is 0-100":                             func(in *Input) { in.HostConfig.MemorySwappiness = ptr(int64(101)) },
		"Nano CPUs and CPU Period cannot both be set":                        func(in *Input) { in.HostConfig.NanoCPUs, in.HostConfig.CPUPeriod = 1e9, 1000 },
		"Range of CPUs is from 0.01 to 4.00: the kernel shares out no less":  func(in *Input) { in.HostConfig.NanoCPUs = 1e6 },
		"Range of CPUs is from 0.01 to 4.00, as there are only 4 CPUs":       func(in *Input) { in.HostConfig.NanoCPUs = 5e9 },
		"CPU cfs period can not be less than 1ms":                            func(in *Input) { in.HostConfig.CPUPeriod = 10 },
		"CPU cfs quota can not be less than 1ms":                             func(in *Input) { in.HostConfig.CPUQuota = 10 },
		"Requested CPUs are not available - requested 2-7, available: 0-3":   func(in *Input) { in.HostConfig.CpusetCpus = "2-7" },
		"Invalid value 0-4294967295 for cpuset mems":                         func(in *Input) { in.HostConfig.CpusetMems = "0-4294967295" },
		"Range of blkio weight is from 10 to 1000":                           func(in *Input) { in.HostConfig.BlkioWeight = 5 },
		"range for oom score adj is [-1000, 1000]":                           func(in *Input) { in.HostConfig.OomScoreAdj = 2000 },
		"SHM size can not be less than 0":                                    func(in *Input) { in.HostConfig.ShmSize = -1 },
		"invalid IPC mode: x":                                                func(in *Input) { in.HostConfig.IpcMode = "x" },
		"invalid PID mode: x":                                                func(in *Input) { in.HostConfig.PidMode = "x" },
		"invalid UTS mode: x":                                                func(in *Input) { in.HostConfig.UTSMode = "x" },
		"invalid cgroup namespace mode: x":                                   func(in *Input) { in.HostConfig.CgroupnsMode = "x" },
		"unknown or invalid runtime name: crun":                              func(in *Input) { in.HostConfig.Runtime = "crun" },
		`invalid CapAdd: unknown capability: "FLY"`:                          func(in *Input) { in.HostConfig.CapAdd = []string{"FLY"} },
		`invalid CapDrop: unknown capability: "FLY"`:                         func(in *Input) { in.HostConfig.CapDrop = []string{"FLY"} },
		`invalid --security-opt 1: "what"`:                                   func(in *Input) { in.HostConfig.SecurityOpt = []string{"what"} },
		`invalid --security-opt 2: "what=x"`:                                 func(in *Input) { in.HostConfig.SecurityOpt = []string{"what=x"} },
		"Decoding seccomp profile failed":                                    func(in *Input) { in.HostConfig.SecurityOpt = []string{"seccomp=/a/file"} },
		"sysctl 'net.x' not allowed in host network namespace": func(in *Input) {
			in.HostConfig.NetworkMode, in.HostConfig.Sysctls = "host", map[string]string{"net.x": "1"}
		},
		"sysctl 'kernel.sem' not allowed in host ipc namespace": func(in *Input) {
			in.HostConfig.IpcMode, in.HostConfig.Sysctls = "host", map[string]string{"kernel.sem": "1"}
		},
		"sysctl 'vm.swappiness' is not in a separate kernel namespace": func(in *Input) { in.HostConfig.Sysctls = map[string]string{"vm.swappiness": "1"} },
		"sysctl 'net.//.kernel.core_pattern' is not a valid name":      func(in *Input) { in.HostConfig.Sysctls = map[string]string{"net/../kernel/core_pattern": "1"} },
		"sysctl 'net..x' is not a valid name":                          func(in *Input) { in.HostConfig.Sysctls = map[string]string{"net..x": "1"} },
		"invalid specification: destination can't be '/'":              func(in *Input) { in.HostConfig.Tmpfs = map[string]string{"/x/..": ""} },
		`invalid tmpfs option "lower=/"`:                               func(in *Input) { in.HostConfig.Tmpfs = map[string]string{"/x": "lower=/"} },
		"invalid device cgroup rule format: 'x'":                       func(in *Input) { in.HostConfig.DeviceCgroupRules = []string{"x"} },
		"it needs to be an absolute path":                              func(in *Input) { in.Config.WorkingDir = "x" },
		"invalid environment variable: =x":                             func(in *Input) { in.Config.Env = []string{"=x"} },
		"invalid hostname format":                                      func(in *Input) { in.Config.Hostname = strings.Repeat("x", 65) },
		`invalid command: "a\x00b" holds a NUL byte`:                   func(in *Input) { in.Config.Cmd = []string{"a\x00b"} },
		"no command specified":                                         func(in *Input) { in.Config.Cmd = nil },
		"invalid ulimit type: x":                                       func(in *Input) { in.HostConfig.Ulimits = []*container.Ulimit{{Name: "x"}} },
		"cannot join the network namespace of container:x":             func(in *Input) { in.HostConfig.NetworkMode = "container:x" },
		`should be a valid slice named as "xxx.slice"`:                 func(in *Input) { in.Host.SystemdCgroup, in.HostConfig.CgroupParent = true, "x" },
	} {
		in := base()
		change(&in)
		_, _, err := Build(in)
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("got %v, want %q", err, words)
		}
		if !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v is not an invalid argument", err)
		}
	}
}

// TestOOMScore: a container does not inherit that the daemon is spared.
func TestOOMScore(t *testing.T) {
	for daemon, want := range map[int]*int{0: nil, -500: ptr(0), 100: nil} {
		in := base()
		in.Host.OOMScoreAdj = daemon
		s, _, err := Build(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Process.OOMScoreAdj; (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Errorf("daemon %d: %v, want %v", daemon, got, want)
		}
	}
}

func TestHostLacks(t *testing.T) {
	in := base()
	in.Host.Controls = &Controls{Memory: true}
	in.Host.Seccomp = false
	in.Host.Capabilities = []string{"CAP_CHOWN", "CAP_KILL"}
	in.HostConfig.CapAdd = []string{"SYS_RESOURCE"}
	in.Host.RlimitHard = map[string]uint64{"RLIMIT_NOFILE": 100}
	in.HostConfig.Resources = container.Resources{
		Memory: 8 << 20, CPUShares: 5, CPUQuota: 5000, CpusetCpus: "0", PidsLimit: ptr(int64(5)), BlkioWeight: 20,
		OomKillDisable: ptr(true), MemorySwappiness: ptr(int64(5)),
		BlkioDeviceReadIOps: []*blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: 1}},
		Ulimits:             []*container.Ulimit{{Name: "nofile", Soft: 500, Hard: 500}},
	}
	s, warnings, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	r := s.Linux.Resources
	if r.CPU != nil || r.Pids != nil || r.BlockIO != nil || *r.Memory.Swap != -1 || r.Memory.Swappiness != nil {
		t.Errorf("limits that the host lacks are left: %+v", r)
	}
	if got := s.Process.Capabilities.Bounding; !reflect.DeepEqual(got, []string{"CAP_CHOWN", "CAP_KILL"}) {
		t.Errorf("capabilities %v", got)
	}
	for _, words := range []string{
		"swap limit", "CPU shares", "CFS scheduler", "cpuset", "PIDs limit", "Block I/O weight", "OomKillDisable", "swappiness",
		"IOPS Block read limit", "CAP_SYS_RESOURCE", "Ulimit nofile", "seccomp is not enabled",
	} {
		if !strings.Contains(strings.Join(warnings, "\n"), words) {
			t.Errorf("no warning of %s in %q", words, warnings)
		}
	}
}

// TestNothingIsShared changes every slice and map of one output and looks at another.
func TestNothingIsShared(t *testing.T) {
	for name, change := range golden {
		in := base()
		change(&in)
		first, _, err := Build(in)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := json.Marshal(first)
		second, _, err := Build(in)
		if err != nil {
			t.Fatal(err)
		}
		scramble(reflect.ValueOf(second))
		if got, _ := json.Marshal(first); string(got) != string(want) {
			t.Errorf("%s: changing one output changed another", name)
		}
		third, _, err := Build(in)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := json.Marshal(third); string(got) != string(want) {
			t.Errorf("%s: changing an output changed what is built later:\n%s", name, cmp.Diff(string(want), string(got)))
		}
	}
}

// scramble overwrites all that v points to.
func scramble(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			scramble(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			scramble(v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			scramble(v.Index(i))
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			v.SetMapIndex(k, reflect.Zero(v.Type().Elem()))
		}
	case reflect.String:
		v.SetString("scrambled")
	case reflect.Int, reflect.Int64:
		v.SetInt(-7)
	case reflect.Uint, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	}
}

func TestDefaultSeccompProfile(t *testing.T) {
	names := func(change func(*Input)) map[string]bool {
		in := base()
		change(&in)
		s, _, err := Build(in)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]bool{}
		for _, c := range s.Linux.Seccomp.Syscalls {
			for _, n := range c.Names {
				if c.Action == specs.ActAllow {
					out[n] = true
				}
			}
		}
		return out
	}
	def := names(func(*Input) {})
	if !def["read"] || !def["ptrace"] || !def["chroot"] || def["mount"] || def["reboot"] {
		t.Error("the default profile is not docker's")
	}
	if with := names(func(in *Input) { in.HostConfig.CapAdd = []string{"SYS_ADMIN"} }); !with["mount"] {
		t.Error("CAP_SYS_ADMIN does not allow mount")
	}
	if old := names(func(in *Input) { in.Host.KernelRelease = "4.4.0" }); old["ptrace"] {
		t.Error("ptrace is allowed on an old kernel")
	}
	in := base()
	in.HostConfig.SecurityOpt = []string{"seccomp=unconfined"}
	if s, _, err := Build(in); err != nil || s.Linux.Seccomp != nil {
		t.Errorf("unconfined: %v", err)
	}
}

func BenchmarkBuild(b *testing.B) {
	in := base()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Build(in); err != nil {
			b.Fatal(err)
		}
	}
}
