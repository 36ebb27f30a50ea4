package engine

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	docker "github.com/moby/moby/api/types/container"
	dockernet "github.com/moby/moby/api/types/network"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kistdev/kist/internal/network"
)

// home is the directory of a container: its log, and the files that the engine makes for it.
func (e *Engine) home(id string) string { return filepath.Join(e.cfg.DataRoot, "containers", id) }

func (e *Engine) logPath(id string) string { return filepath.Join(e.home(id), id+"-json.log") }

// identity is the content of the files that tell a container who and where it is.
type identity struct {
	hostname, domain string
	hosts            []string // of --add-host
	addrs            []netip.Addr
	resolv           network.ResolvConf
	served           bool // the daemon's name server stays, and asks the container's own
	lone             bool // the default bridge is its only network
	config           *docker.HostConfig
	gateway          netip.Addr // what host-gateway means
	links            []string   // lines for the containers it is linked to
	hostFiles        bool       // the host's own hosts file is the base
}

// writeFiles writes hostname, hosts and resolv.conf, and returns the mounts that show them.
func (e *Engine) writeFiles(id string, i identity) ([]specs.Mount, error) {
	dir := e.home(id)
	hosts, err := i.hostsFile()
	if err != nil {
		return nil, err
	}
	list := make([]specs.Mount, 0, 3)
	for _, f := range []struct {
		name    string
		content []byte
	}{
		{"resolv.conf", i.resolvConf()},
		{"hostname", []byte(i.hostname + "\n")},
		{"hosts", hosts},
	} {
		file := filepath.Join(dir, f.name)
		// The container may read them as any user, and write them as root.
		if err := os.WriteFile(file, f.content, 0o644); err != nil { //nolint:gosec // see above
			return nil, fmt.Errorf("write %s of the container: %w", f.name, err)
		}
		list = append(list, shownAs(file, "/etc/"+f.name, i.config.ReadonlyRootfs))
	}
	return list, nil
}

func shownAs(file, target string, readOnly bool) specs.Mount {
	m := specs.Mount{Type: "bind", Source: file, Destination: target, Options: []string{"rbind", "rprivate"}}
	if readOnly {
		m.Options = append(m.Options, "ro")
	}
	return m
}

// sharedFiles are the mounts of the files of another container, whose network is joined.
func (e *Engine) sharedFiles(id string, readOnly bool) []specs.Mount {
	var list []specs.Mount
	for _, name := range []string{"resolv.conf", "hostname", "hosts"} {
		file := filepath.Join(e.home(id), name)
		if _, err := os.Stat(file); err == nil {
			list = append(list, shownAs(file, "/etc/"+name, readOnly))
		}
	}
	return list
}

func (i *identity) hostsFile() ([]byte, error) {
	var b bytes.Buffer
	if i.hostFiles {
		host, err := os.ReadFile("/etc/hosts")
		if err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		b.Write(host)
		if n := len(host); n > 0 && host[n-1] != '\n' {
			b.WriteByte('\n')
		}
	} else {
		b.WriteString("127.0.0.1\tlocalhost\n" +
			"::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::\tip6-localnet\n" +
			"ff00::\tip6-mcastprefix\n" +
			"ff02::1\tip6-allnodes\n" +
			"ff02::2\tip6-allrouters\n")
	}
	for _, entry := range i.hosts {
		name, addr, _ := cutHost(entry)
		if addr == "host-gateway" {
			if !i.gateway.IsValid() {
				return nil, invalid("unable to derive the IP value for host-gateway")
			}
			addr = i.gateway.String()
		}
		if _, err := netip.ParseAddr(addr); err != nil {
			return nil, invalid("invalid IP address in add-host: %q", addr)
		}
		fmt.Fprintf(&b, "%s\t%s\n", addr, name)
	}
	for _, l := range i.links {
		b.WriteString(l)
	}
	if i.lone && i.gateway.IsValid() { // elsewhere the name server knows them
		fmt.Fprintf(&b, "%s\thost.docker.internal gateway.docker.internal host.kist.internal\n", i.gateway)
	}
	names := i.hostname
	if i.domain != "" {
		names += "." + i.domain
	}
	if short, _, full := strings.Cut(names, "."); full { // Also by the name without its domain.
		names += " " + short
	}
	for _, a := range i.addrs {
		fmt.Fprintf(&b, "%s\t%s\n", a, names)
	}
	return b.Bytes(), nil
}

// resolvConf is the network's, with what the user asked for instead.
func (i *identity) resolvConf() []byte {
	servers, search, options := i.resolv.Servers, i.resolv.Search, i.resolv.Options
	if len(i.config.DNS) > 0 && !i.served { // the daemon's name server asks them
		servers = i.config.DNS
	}
	if len(i.config.DNSSearch) > 0 {
		search = i.config.DNSSearch
	}
	if len(i.config.DNSOptions) > 0 {
		options = i.config.DNSOptions
		if i.served && slices.Contains(i.resolv.Options, plainFirst) && !slices.ContainsFunc(options, isDots) {
			options = append(slices.Clip(options), plainFirst)
		}
	}
	var b bytes.Buffer
	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(search) > 0 && !slices.Equal(search, []string{"."}) {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	if len(options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(options, " "))
	}
	return b.Bytes()
}

// plainFirst has resolvers ask for every name as it is before they try the search domains.
const plainFirst = "ndots:0"

func isDots(option string) bool { return strings.HasPrefix(option, "ndots:") }

// identify collects what the files of a container say.
func (e *Engine) identify(d *definition, s *network.Sandbox) (identity, error) {
	if s == nil {
		i := e.hostsOf(d, nil)
		r, err := e.networks.HostResolv()
		i.resolv = r
		i.gateway = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		return i, err
	}
	i := e.hostsOf(d, s.Networks)
	i.resolv, i.served = s.Resolv, len(s.Sockets) > 0
	return i, nil
}

// hostsOf collects what the hosts file of a container says: its addresses in the order of the networks' names, that of the
// network mode first.
func (e *Engine) hostsOf(d *definition, networks map[string]*dockernet.EndpointSettings) identity {
	i := identity{
		hostname: d.Config.Hostname, domain: d.Config.Domainname, hosts: d.HostConfig.ExtraHosts,
		config: d.HostConfig, hostFiles: d.HostConfig.NetworkMode.IsHost(),
	}
	names := slices.Sorted(maps.Keys(networks))
	i.lone = len(names) == 1 && names[0] == dockernet.NetworkBridge
	if len(names) > 1 {
		first := e.primary(d)
		slices.SortStableFunc(names, func(a, b string) int {
			return cmp.Compare(btoi(b == first), btoi(a == first))
		})
	}
	for _, name := range names {
		ep := networks[name]
		for _, a := range []netip.Addr{ep.IPAddress, ep.GlobalIPv6Address} {
			if a.IsValid() {
				i.addrs = append(i.addrs, a)
			}
		}
		if ep.Gateway.IsValid() && !i.gateway.IsValid() {
			i.gateway = ep.Gateway
		}
	}
	return i
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
