package cgroup

import (
	"bytes"
	"os"
	"strings"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// essential are the devices that every container may use whatever its rules say: OCI's standard devices, terminals, and the
// making (not the opening) of any device file.
var essential = func() []specs.LinuxDeviceCgroup {
	rule := func(kind string, major, minor int64, access string) specs.LinuxDeviceCgroup {
		return specs.LinuxDeviceCgroup{Allow: true, Type: kind, Major: &major, Minor: &minor, Access: access}
	}
	return []specs.LinuxDeviceCgroup{
		rule("c", -1, -1, "m"), rule("b", -1, -1, "m"),
		rule("c", 1, 3, "rwm"), rule("c", 1, 5, "rwm"), rule("c", 1, 7, "rwm"), rule("c", 1, 8, "rwm"), rule("c", 1, 9, "rwm"),
		rule("c", 5, 0, "rwm"), rule("c", 5, 2, "rwm"), rule("c", 136, -1, "rwm"),
	}
}()

// restrictsDevices tells whether rules forbid anything. No rules at all forbid everything but the essential devices.
func restrictsDevices(rules []specs.LinuxDeviceCgroup) bool {
	restricted := true
	for _, r := range rules {
		switch {
		case coversAll(r):
			restricted = !r.Allow
		case !r.Allow:
			restricted = true
		}
	}
	return restricted
}

// coversAll: the rule is about all devices and all access to them.
func coversAll(r specs.LinuxDeviceCgroup) bool {
	return isAll(r) && (r.Access == "" ||
		strings.Contains(r.Access, "r") && strings.Contains(r.Access, "w") && strings.Contains(r.Access, "m"))
}

func isAll(r specs.LinuxDeviceCgroup) bool {
	return (r.Type == "" || r.Type == "a") && wildcard(r.Major) && wildcard(r.Minor)
}

func wildcard(n *int64) bool { return n == nil || *n < 0 }

// effective drops what an "all devices" rule makes void, and adds the essential devices.
func effective(rules []specs.LinuxDeviceCgroup) (allowAll bool, rest []specs.LinuxDeviceCgroup) {
	for i, r := range rules {
		if coversAll(r) {
			allowAll, rest = r.Allow, rules[i+1:]
		} else if i == 0 {
			rest = rules
		}
	}
	out := make([]specs.LinuxDeviceCgroup, 0, len(rest)+len(essential))
	out = append(out, rest...)
	return allowAll, append(out, essential...)
}

// restrictDevicesV1 writes the rules as version 1 takes them. A denial of what is not allowed has nothing to deny.
func (g *Group) restrictDevicesV1(rules []specs.LinuxDeviceCgroup) (warnings []string, err error) {
	d := g.dir("devices")
	if d == nil {
		return []string{noDevices}, nil
	}
	allowAll, rest := effective(rules)
	first := "devices.deny"
	if allowAll {
		first = "devices.allow"
	}
	if err := d.write(g.rel, first, "a"); err != nil {
		return nil, err
	}
	// Rules in a row that go to the same file are written through one descriptor.
	for i := 0; i < len(rest); {
		file, values, n := batchV1(rest[i:])
		if err := d.writeAll(g.rel, file, values); err != nil {
			return nil, classify(err)
		}
		i += n
	}
	return nil, nil
}

func batchV1(rules []specs.LinuxDeviceCgroup) (file string, values []string, n int) {
	file = "devices.deny"
	if rules[0].Allow {
		file = "devices.allow"
	}
	for _, r := range rules {
		if r.Allow != rules[0].Allow {
			break
		}
		values = append(values, ruleV1(r)...)
		n++
	}
	return file, values, n
}

// ruleV1 is one rule in the kernel's words; "a" with numbers means character and block devices.
func ruleV1(r specs.LinuxDeviceCgroup) []string {
	access := r.Access
	if access == "" {
		access = "rwm"
	}
	tail := " " + number(r.Major) + ":" + number(r.Minor) + " " + access
	if r.Type == "" || r.Type == "a" {
		return []string{"c" + tail, "b" + tail}
	}
	return []string{r.Type + tail}
}

func number(n *int64) string {
	if wildcard(n) {
		return "*"
	}
	return itoa(*n)
}

// inUserNamespace: there the kernel lets nobody restrict devices, and nobody make them either.
var inUserNamespace = sync.OnceValue(func() bool {
	m, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false
	}
	f := bytes.Fields(m)
	return len(f) < 3 || string(f[0]) != "0" || string(f[1]) != "0" || string(f[2]) != "4294967295"
})
