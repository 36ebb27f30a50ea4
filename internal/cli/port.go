package cli

import (
	"fmt"
	"net"
	"slices"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

func (a *app) portCommand() *cobra.Command {
	return &cobra.Command{
		Use: "port CONTAINER [PORT[/PROTOCOL]]", Args: between(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			c, err := client.CallJSON[container.InspectResponse](cl, client.Get(containerPath(args[0], "/json"), nil))
			if err != nil {
				return a.hintContainer(cl, args[0], err)
			}
			var ports network.PortMap
			if c.NetworkSettings != nil {
				ports = c.NetworkSettings.Ports
			}
			if len(args) == 2 {
				return a.printPort(ports, args[1])
			}
			return a.printPorts(ports)
		},
	}
}

func (a *app) printPort(ports network.PortMap, want string) error {
	p, err := network.ParsePort(want)
	if err != nil {
		return err
	}
	if len(ports[p]) == 0 {
		return &hintedError{err: fmt.Errorf("no public port '%s' published", p), try: "kist run -p HOSTPORT:" + want, code: "port-not-published"}
	}
	for _, b := range ports[p] {
		if err := a.printLine(bindingAddr(b)); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printPorts(ports network.PortMap) error {
	keys := make([]network.Port, 0, len(ports))
	for p := range ports {
		keys = append(keys, p)
	}
	slices.SortFunc(keys, func(x, y network.Port) int {
		if d := int(x.Num()) - int(y.Num()); d != 0 {
			return d
		}
		return slices.Compare([]byte(x.Proto()), []byte(y.Proto()))
	})
	for _, p := range keys {
		for _, b := range ports[p] {
			if err := a.printLine(p.String() + " -> " + bindingAddr(b)); err != nil {
				return err
			}
		}
	}
	return nil
}

func bindingAddr(b network.PortBinding) string {
	ip := ""
	if b.HostIP.IsValid() {
		ip = b.HostIP.String()
	}
	return net.JoinHostPort(ip, b.HostPort)
}
