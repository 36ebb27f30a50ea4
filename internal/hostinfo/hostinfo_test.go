package hostinfo

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/system"
)

func TestProbe(t *testing.T) {
	f, err := Probe()
	if err != nil {
		t.Skip("no control groups here:", err)
	}
	h := f.Host
	if h.KernelRelease == "" || h.CPUs == 0 || h.Hostname == "" || f.MemTotal < 1<<20 || f.Architecture == "" {
		t.Errorf("facts are missing: %+v", f)
	}
	if os.Geteuid() == 0 && !slices.Contains(h.Capabilities, "CAP_CHOWN") {
		t.Errorf("root lacks CAP_CHOWN: %v", h.Capabilities)
	}
	var null bool
	for _, d := range h.Devices {
		null = null || d.Path == "/dev/null" && d.Type == "c" && d.Major == 1 && d.Minor == 3
		if strings.HasPrefix(d.Path, "/dev/pts/") || d.Path == "/dev/ptmx" || d.Path == "/dev/console" {
			t.Errorf("a terminal of the host is listed: %s", d.Path)
		}
	}
	if !null {
		t.Error("/dev/null was not found")
	}
	var i system.Info
	f.Fill(&i)
	if i.OSType != "linux" || i.NCPU != h.CPUs || i.CgroupVersion == "" || i.OperatingSystem == "" {
		t.Errorf("info: %+v", i)
	}
}

func TestFiles(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{
		"etc/os-release":                          "NAME=x\nPRETTY_NAME=\"Some Linux 9\"\nVERSION_ID='9'\n",
		"proc/self/uid_map":                       "         0       1000          1\n",
		"sys/kernel/security/apparmor/profiles":   "docker-default (enforce)\n/usr/bin/man (complain)\n",
		"sys/module/apparmor/parameters/enabled":  "Y\n",
		"sys/devices/system/cpu/cpu1/x":           "",
		"proc/sys/net/ipv4/ping_group_range":      "1 0\n",
		"sys/devices/system/cpu/cpufreq/x":        "",
		"sys/devices/system/cpu/cpu0/topology/id": "",
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "sys/devices/system/cpu/cpu0/thermal_throttle"), 0o755); err != nil {
		t.Fatal(err)
	}
	if name, version := osRelease(root); name != "Some Linux 9" || version != "9" {
		t.Errorf("os is %q %q", name, version)
	}
	if !rootless(root) {
		t.Error("a mapped root was taken for the machine's")
	}
	if got := appArmorProfiles(root); !slices.Equal(got, []string{"docker-default", "/usr/bin/man"}) {
		t.Errorf("profiles %v", got)
	}
	if got := thermal(root); !slices.Equal(got, []string{"/sys/devices/system/cpu/cpu0/thermal_throttle"}) {
		t.Errorf("thermal %v", got)
	}
	if got := sysctls(root); !slices.Equal(got, []string{"net.ipv4.ping_group_range"}) {
		t.Errorf("sysctls %v", got)
	}
}
