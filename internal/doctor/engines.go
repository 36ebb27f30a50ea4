package doctor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
)

// otherEngines by their processes, with the socket each listens on and how its bridges are called.
var otherEngines = []struct {
	program, name, socket string
	bridges               []string
}{
	{"dockerd", "Docker", "/run/docker.sock", []string{"docker0", "br-"}},
	{"containerd", "containerd", "/run/containerd/containerd.sock", []string{"nerdctl"}},
	{"podman", "podman", "/run/podman/podman.sock", []string{"podman", "cni-podman"}},
	{"crio", "CRI-O", "/run/crio/crio.sock", []string{"cni0"}},
	{"k3s", "k3s", "/run/k3s/containerd/containerd.sock", []string{"cni0", "flannel"}},
	{"kubelet", "Kubernetes", "", []string{"cni0", "cbr0"}},
}

// engines looks for others on this host: each works beside kist, unless they have the same addresses.
func engines(_ context.Context, h *host) []Finding {
	var list []Finding
	bridges := bridgeSubnets()
	for _, e := range otherEngines {
		running := h.called(e.program)
		_, err := os.Stat(e.socket)
		if len(running) == 0 && (e.socket == "" || err != nil) {
			continue
		}
		text := "installed, not running"
		if len(running) > 0 {
			text = fmt.Sprintf("running (pid %d)", running[0].pid)
		}
		list = append(list, ok(e.name, text+"; its images, containers and ports are its own"))
		if root := running; len(root) > 0 && root[0].flag("--data-root") == h.DataRoot {
			list = append(list, fail(e.name, "it has the same data root as kist: "+h.DataRoot, "kistd --data-root DIRECTORY"))
		}
		list = append(list, clashes(e.name, e.bridges, bridges, h)...)
	}
	for _, p := range h.called("kistd") {
		if root := either(p.flag("--data-root"), p.variable("KIST_DATA_ROOT")); p.pid != h.daemon.pid && p.pid != os.Getpid() && root != h.DataRoot {
			list = append(list, ok("kist", fmt.Sprintf("another daemon (pid %d) has the data root %s: KIST_DATA_ROOT=%s kist doctor looks at that one", p.pid, either(root, "/var/lib/kist"), either(root, "/var/lib/kist"))))
		}
	}
	if len(list) == 0 {
		return []Finding{ok("others", "no docker, podman, containerd, CRI-O or Kubernetes is here")}
	}
	return list
}

// bridgeSubnets are the subnets of this host's interfaces, by name.
func bridgeSubnets() map[string][]netip.Prefix {
	all := map[string][]netip.Prefix{}
	interfaces, err := net.Interfaces()
	if err != nil {
		return all
	}
	for _, i := range interfaces {
		addresses, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addresses {
			if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
				all[i.Name] = append(all[i.Name], p.Masked())
			}
		}
	}
	return all
}

// clashes finds subnets that an engine's bridge and one of kist's both have.
func clashes(engine string, theirs []string, all map[string][]netip.Prefix, h *host) []Finding {
	var list []Finding
	for name, subnets := range all {
		if !hasAnyPrefix(name, theirs) {
			continue
		}
		for own, ownSubnets := range all {
			if own != h.bridgeName() && !strings.HasPrefix(own, "kist") {
				continue
			}
			for _, a := range subnets {
				for _, b := range ownSubnets {
					if a.Overlaps(b) {
						list = append(list, fail(engine, fmt.Sprintf("its bridge %s has %s, which overlaps %s of kist's %s: answers go astray", name, a, b, own),
							"kistd --bip ADDRESS/PREFIX with another range, or \"bip\" in /etc/kist/daemon.json"))
					}
				}
			}
		}
	}
	return list
}

func hasAnyPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}
