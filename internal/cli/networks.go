package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

func networkPath(name string) string { return "/networks/" + url.PathEscape(name) }

// networkRow is a line of network ls.
type networkRow struct {
	CreatedAt string
	Driver    string
	ID        string
	IPv4      string
	IPv6      string
	Internal  string
	Labels    string
	Name      string
	Scope     string
	labels
}

var networkHeaders = headers{
	"ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "IPv4": "IPV4", "IPv6": "IPV6",
	"Internal": "INTERNAL", "Labels": "LABELS", "CreatedAt": "CREATED AT",
}

func (a *app) networkListCommand() *cobra.Command {
	var (
		format         string
		noTrunc, quiet bool
		filters        filterFlag
	)
	c := &cobra.Command{Use: "ls [OPTIONS]", Args: noArgs}
	c.Flags().VarP(&filters, "filter", "f", "Show only what matches, as in driver=bridge")
	c.Flags().StringVar(&format, "format", "", formatHelp)
	c.Flags().BoolVar(&noTrunc, "no-trunc", false, "Do not shorten anything")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "Print ids only")
	c.RunE = func(*cobra.Command, []string) error {
		if format == "" {
			format = a.config().Networks
		}
		l := &listing{
			whole:  noTrunc,
			format: format, headers: networkHeaders, table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
			raw: "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
		}
		if quiet {
			l.quiet = "{{.ID}}"
		}
		q := url.Values{}
		filters.addTo(q)
		cl, err := a.client()
		if err != nil {
			return err
		}
		list, err := client.CallJSON[[]network.Summary](cl, client.Get("/networks", q))
		if err != nil {
			return err
		}
		slices.SortFunc(*list, func(x, y network.Summary) int { return slices.Compare([]byte(x.Name), []byte(y.Name)) })
		rows := make([]networkRow, len(*list))
		for i, n := range *list {
			rows[i] = networkRow{
				CreatedAt: n.Created.String(), Driver: n.Driver, ID: n.ID, IPv4: strconv.FormatBool(n.EnableIPv4),
				IPv6: strconv.FormatBool(n.EnableIPv6), Internal: strconv.FormatBool(n.Internal), Name: n.Name, Scope: n.Scope,
				labels: labels{n.Labels},
			}
			rows[i].Labels = rows[i].joined()
			if !noTrunc {
				rows[i].ID = shortID(n.ID)
			}
		}
		return printRows(a.out, l, rows)
	}
	return c
}

func (a *app) networkRemoveCommand() *cobra.Command {
	var force bool
	c := &cobra.Command{Use: "rm [OPTIONS] NETWORK...", Args: atLeast(1)}
	c.Flags().BoolVarP(&force, "force", "f", false, "Do not fail if it does not exist")
	c.RunE = func(_ *cobra.Command, args []string) error {
		return a.each(args, func(cl *client.Client, name string) (string, error) {
			err := cl.Call(client.Delete(networkPath(name), nil))
			if force && errors.Is(err, errdefs.ErrNotFound) {
				err = nil
			}
			return name, err
		})
	}
	return c
}

type networkCreateFlags struct {
	driver, ipamDriver                                     string
	labels, opts, ipamOpts, subnets, ranges, gateways, aux listFlag
	attachable, configOnly, ingress, internal, ipv4, ipv6  bool
	configFrom, scope                                      string
}

func (a *app) networkCreateCommand() *cobra.Command {
	var f networkCreateFlags
	c := &cobra.Command{Use: "create [OPTIONS] NETWORK", Args: exactly(1)}
	fs := c.Flags()
	fs.BoolVar(&f.attachable, "attachable", false, "Let containers be connected by hand")
	list(fs, &f.aux, "aux-address", "", "Address that is taken: name=address", nil)
	fs.StringVar(&f.configFrom, "config-from", "", "Network to take the settings from")
	fs.BoolVar(&f.configOnly, "config-only", false, "Only keep the settings")
	fs.StringVarP(&f.driver, "driver", "d", "bridge", "Network driver")
	list(fs, &f.gateways, "gateway", "", "Address of the gateway", checkAddr)
	fs.BoolVar(&f.ingress, "ingress", false, "Swarm's; not served")
	fs.Lookup("ingress").Hidden = true
	fs.BoolVar(&f.internal, "internal", false, "Let it reach nothing outside")
	list(fs, &f.ranges, "ip-range", "", "Range to give addresses from", nil)
	fs.StringVar(&f.ipamDriver, "ipam-driver", "default", "Driver that manages addresses")
	list(fs, &f.ipamOpts, "ipam-opt", "", "Option for that driver: name=value", nil)
	fs.BoolVar(&f.ipv4, "ipv4", true, "Give IPv4 addresses")
	fs.BoolVar(&f.ipv6, "ipv6", false, "Give IPv6 addresses")
	list(fs, &f.labels, "label", "", "Set a label: name=value", checkLabel)
	list(fs, &f.opts, "opt", "o", "Option for the driver: name=value", nil)
	fs.StringVar(&f.scope, "scope", "", "Scope of the network")
	list(fs, &f.subnets, "subnet", "", "Subnet, as in 10.5.0.0/16", nil)
	c.RunE = func(c *cobra.Command, args []string) error {
		req, err := f.request(args[0])
		if err != nil {
			return err
		}
		if c.Flags().Changed("ipv4") {
			req.EnableIPv4 = &f.ipv4
		}
		if c.Flags().Changed("ipv6") {
			req.EnableIPv6 = &f.ipv6
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		made, err := client.Ask[network.CreateResponse](cl, "/networks/create", nil, req)
		if err != nil {
			return err
		}
		if made.Warning != "" {
			a.note("warning: " + made.Warning)
		}
		return a.printLine(made.ID)
	}
	return c
}

func (f *networkCreateFlags) request(name string) (*network.CreateRequest, error) {
	if f.ingress {
		return nil, errors.New("--ingress is Swarm's and not served")
	}
	ipam, err := f.ipam()
	if err != nil {
		return nil, err
	}
	r := &network.CreateRequest{
		Name: name, Driver: f.driver, Options: mapOf(f.opts.values), Labels: mapOf(f.labels.values), Internal: f.internal,
		Attachable: f.attachable, ConfigOnly: f.configOnly, Scope: f.scope, IPAM: ipam,
	}
	if f.configFrom != "" {
		r.ConfigFrom = &network.ConfigReference{Network: f.configFrom}
	}
	return r, nil
}

// ipam sorts ranges, gateways and taken addresses to the subnet that holds them.
func (f *networkCreateFlags) ipam() (*network.IPAM, error) {
	m := &network.IPAM{Driver: f.ipamDriver, Options: mapOf(f.ipamOpts.values)}
	for _, s := range f.subnets.values {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, &hintedError{err: fmt.Errorf("invalid subnet %q", s), try: "--subnet 10.1.0.0/16: the first address and the bits of the network", code: "bad-flag"}
		}
		for _, other := range m.Config {
			if other.Subnet.Overlaps(p) {
				return nil, errors.New("multiple overlapping subnet configuration is not supported")
			}
		}
		m.Config = append(m.Config, network.IPAMConfig{Subnet: p})
	}
	home := func(what string, a netip.Addr) (*network.IPAMConfig, error) {
		for i := range m.Config {
			if m.Config[i].Subnet.Contains(a) {
				return &m.Config[i], nil
			}
		}
		return nil, fmt.Errorf("no matching subnet for %s %s", what, a)
	}
	for _, s := range f.ranges.values {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, &hintedError{err: fmt.Errorf("invalid range %q", s), try: "--ip-range 10.1.5.0/24, a part of the subnet", code: "bad-flag"}
		}
		c, err := home("range", p.Addr())
		if err != nil {
			return nil, err
		}
		c.IPRange = p
	}
	for _, s := range f.gateways.values {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, err
		}
		c, err := home("gateway", a)
		if err != nil {
			return nil, err
		}
		c.Gateway = a
	}
	taken, err := pairs(f.aux.values, "aux-address")
	if err != nil {
		return nil, err
	}
	for _, name := range sortedKeys(taken) {
		a, err := netip.ParseAddr(taken[name])
		if err != nil {
			return nil, fmt.Errorf("invalid aux-address %s: %w", name, err)
		}
		c, err := home("aux-address", a)
		if err != nil {
			return nil, err
		}
		if c.AuxAddress == nil {
			c.AuxAddress = map[string]netip.Addr{}
		}
		c.AuxAddress[name] = a
	}
	return m, nil
}

func (a *app) networkConnectCommand() *cobra.Command {
	var (
		e    endpointFlags
		opts listFlag
		prio int
	)
	c := &cobra.Command{Use: "connect [OPTIONS] NETWORK CONTAINER", Args: exactly(2)}
	fs := c.Flags()
	list(fs, &e.aliases, "alias", "", "Further name on the network", nil)
	list(fs, &opts, "driver-opt", "", "Option for the driver: name=value", nil)
	fs.IntVar(&prio, "gw-priority", 0, "The network of the highest priority has the default route")
	fs.StringVar(&e.ip4, "ip", "", "IPv4 address")
	fs.StringVar(&e.ip6, "ip6", "", "IPv6 address")
	list(fs, &e.links, "link", "", "Link to another container: name[:alias]", checkLink)
	list(fs, &e.linkLocal, "link-local-ip", "", "Link-local address", checkAddr)
	c.RunE = func(_ *cobra.Command, args []string) error {
		n := attachment{target: args[0], priority: prio}
		var err error
		if n.driverOpts, err = pairs(opts.values, "driver option"); err != nil {
			return err
		}
		if err := n.apply(&e); err != nil {
			return err
		}
		n.links = e.links.values
		ep, err := n.settings()
		if err != nil {
			return err
		}
		return postNetwork(a, args[0], "/connect", network.ConnectRequest{Container: args[1], EndpointConfig: ep})
	}
	return c
}

func (a *app) networkDisconnectCommand() *cobra.Command {
	var force bool
	c := &cobra.Command{Use: "disconnect [OPTIONS] NETWORK CONTAINER", Args: exactly(2)}
	c.Flags().BoolVarP(&force, "force", "f", false, "Disconnect it even if it is gone")
	c.RunE = func(_ *cobra.Command, args []string) error {
		return postNetwork(a, args[0], "/disconnect", network.DisconnectRequest{Container: args[1], Force: force})
	}
	return c
}

// postNetwork sends a network one of its requests.
func postNetwork[T network.ConnectRequest | network.DisconnectRequest](a *app, name, part string, body T) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	return client.Tell(cl, networkPath(name)+part, nil, body)
}
