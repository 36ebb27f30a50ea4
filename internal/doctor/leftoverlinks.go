package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// maxIfName is the length of an interface's name.
const maxIfName = 15

// strayLinks are the host's ends of veth pairs of no endpoint, and bridges of networks that are no more.
func (h *host) strayLinks() []Finding {
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return []Finding{warn("interfaces", "cannot be listed: "+err.Error(), "ip link")}
	}
	known := map[string]bool{}
	prefix := h.Instance + "v"
	for _, c := range h.stock.containers {
		if !c.running {
			continue
		}
		for _, e := range c.endpoints {
			known[prefix+e[:min(len(e), maxIfName-len(prefix))]] = true
		}
	}
	held := h.heldNamespaces()
	var list []Finding
	for _, l := range links {
		at := l.Attrs()
		text := ""
		switch {
		case l.Type() == "veth" && strings.HasPrefix(at.Name, prefix) && len(at.Name) == maxIfName && !known[at.Name]:
			// The daemon keeps some wired ahead, for the containers to come; and containers end while doctor looks.
			if held[at.NetNsID] || gone(at.Name) {
				continue
			}
			text = "the veth pair of a container that is not there any more"
		case strings.HasPrefix(at.Alias, "kist network ") && strings.HasSuffix(at.Alias, " of "+h.Instance):
			id := strings.TrimSuffix(strings.TrimPrefix(at.Alias, "kist network "), " of "+h.Instance)
			if !h.stock.networks[id] {
				text = "the bridge of the network " + id[:min(12, len(id))] + ", which is not there any more"
			}
		}
		if text == "" {
			continue
		}
		f := warn("interface "+at.Name, text, "ip link delete "+at.Name)
		f.fix = func() error { return netlink.LinkDel(l) }
		list = append(list, f)
	}
	return list
}

// gone says whether a link is not there any more.
func gone(name string) bool {
	_, err := netlink.LinkByName(name)
	return err != nil
}

// heldNamespaces are the network namespaces that the daemon has descriptors of or that processes are in, by what the kernel calls
// them here.
func (h *host) heldNamespaces() map[int]bool {
	var paths []string
	for _, p := range h.procs {
		paths = append(paths, fmt.Sprintf("/proc/%d/ns/net", p.pid))
	}
	if h.daemon.pid != 0 {
		dir := fmt.Sprintf("/proc/%d/fd", h.daemon.pid)
		entries, err := os.ReadDir(dir)
		if err == nil {
			for _, e := range entries {
				paths = append(paths, filepath.Join(dir, e.Name()))
			}
		}
	}
	held, seen := map[int]bool{}, map[string]bool{}
	for _, path := range paths {
		target, err := os.Readlink(path)
		if err != nil || !strings.HasPrefix(target, "net:[") || seen[target] {
			continue
		}
		seen[target] = true
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		if id, err := netlink.GetNetNsIdByFd(int(f.Fd())); err == nil && id >= 0 {
			held[id] = true
		}
		_ = f.Close()
	}
	return held
}

// strayTables are firewall tables of daemons that are not there: rules and published ports that lead nowhere.
func (h *host) strayTables() []Finding {
	c, err := nftables.New()
	if err != nil {
		return nil // said under "firewall"
	}
	tables, err := c.ListTables()
	if err != nil {
		return nil
	}
	alive, strangers := h.instances(), h.otherKeepers()
	var list []Finding
	for _, t := range tables {
		instance, found := strings.CutPrefix(t.Name, "kist-")
		if !found || t.Family != nftables.TableFamilyINet || alive[instance] {
			continue
		}
		text, try := "rules of another daemon of kist ("+instance+"), of which no process runs", "nft delete table inet "+t.Name
		if instance != h.Instance && strangers {
			continue // Containers may run whose daemon is away for a moment.
		}
		if instance == h.Instance {
			if h.daemon.pid != 0 || h.anyRunning() {
				continue
			}
			text, try = "rules of this data root's daemon, which does not run, and no container does", "kistd "+h.flags()+"--teardown, or start the daemon"
		}
		f := warn("firewall table "+t.Name, text, try)
		f.fix = func() error {
			c.DelTable(t)
			return c.Flush()
		}
		list = append(list, f)
	}
	return list
}
