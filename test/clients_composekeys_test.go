package test

import (
	"fmt"
	"testing"
)

// TestComposeKeys has docker compose bring up services with the less common keys of a compose file, and looks whether each took
// effect in the container.
func TestComposeKeys(t *testing.T) {
	docker := tool(t, "docker")
	tool(t, "docker-compose")
	tool(t, "docker-buildx")
	c := composer{newBench(t, "compose-keys"), docker}
	c.env = append(c.env, "PASSED=through")
	c.run(docker, "network", "create", "made-before")
	c.run(docker, "volume", "create", "volume-before")
	c.compose("build")
	c.done("build: inline, other contexts, a service on another's image")
	c.compose("up", "-d")
	c.done("up")
	c.want("base", c.compose("exec", "-T", "base", "sh", "-c", "hostname -f; cat /etc/hosts; cat /sys/class/net/eth0/address /sys/class/net/eth*/mtu; ip -4 a; ip r; cat /shared/hook"),
		`^base-host\.example\.org$`, `^1\.2\.3\.4\selsewhere$`, `^10\.76\.0\.1\shost\.docker\.internal$`, "^02:42:0a:4c:00:0a$", "^1400$", `inet 10\.76\.0\.10/24`,
		"^default via 172", "^hooked$")
	c.want("guest", c.compose("exec", "-T", "guest", "sh", "-c", "hostname; ps; cat /shared/hook"), "^base-host$", "(?s)sleep 1000.*sleep 1000", "^hooked$")
	c.want("limits", c.compose("logs", "--no-log-prefix", "limits"), `^Uid:\s1234\s`, `^Groups:.*\b7777\b`, `^CapBnd:\s0000000000000400$`, `^NoNewPrivs:\s1$`, "^500$",
		`\(-n\) 100$`, `\(-u\) 77$`, `^shm +4096 `, "^99$")
	c.want("limits", c.run(docker, "inspect", "keys-limits-1"), `"Memory": 33554432`, `"MemoryReservation": 16777216`, `"PidsLimit": 33`, `"keys.annotation": "yes"`,
		`"PASSED=through"`, `"FILE=of env"`, `"keys.label": "with = and spaces"`)
	c.want("mounts", c.compose("logs", "--no-log-prefix", "longmounts"), "^of the context$", "/bound/x: Read-only file system", "^root:x:0:0", "^file$", `^tmpfs +64 `)
	c.want("built", c.compose("logs", "--no-log-prefix", "inline", "after"), "^of another context$", "^on top$")
	c.want("built", c.run(docker, "image", "inspect", "keys-inline", "-f", "{{json .Config.Labels}}"), `"keys.built":"yes"`, `"keys.extra":"1"`)
	c.want("ports", c.compose("ps", "udp"), `127\.0\.0\.1:18053->53/udp`, `127\.0\.0\.1:18080->80/tcp`, `127\.0\.0\.1:18081->81/tcp`, "99/tcp")
	c.want("udp", c.compose("exec", "-T", "udp", "sh", "-c", "ip -6 a; cat /proc/1/cgroup"), "fd00:76::2/64", ":memory:/$|^0::/$")
	c.eventually(func() error {
		if n := c.run(docker, "inspect", "-f", "{{.RestartCount}} {{.State.Running}}", "keys-again-1"); n != "1 true\n" {
			return fmt.Errorf("a service that fails once has been started again: %s", n)
		}
		return nil
	})
	c.compose("stop", "base")
	c.want("pre_stop", c.compose("run", "--rm", "--no-deps", "-T", "-v", "keys_shared:/s", "limits", "cat", "/s/stop"), "^stopping$")
	c.done("namespaces, limits, mounts, networks, hooks as they were asked for")
	c.compose("down", "-v", "-t", "1", "--rmi", "all")
	c.want("volumes", c.run(docker, "volume", "ls", "-q"), `\Avolume-before\n\z`)
	c.want("networks", c.run(docker, "network", "ls", "-q", "--filter", "type=custom"), `\A\w+\n\z`)
	c.done("down, which leaves what it did not make")
	c.tell("docker compose, the less common keys")
}
