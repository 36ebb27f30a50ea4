package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	docker "github.com/moby/moby/api/types/container"

	"github.com/kistdev/kist/internal/fault"
)

// cutLink takes name:alias apart, or the form that inspect shows, /name:/container/alias.
func cutLink(link string) (name, alias string, err error) {
	name, alias, ok := strings.Cut(link, ":")
	name = strings.TrimPrefix(name, "/")
	if !ok {
		alias = name
	}
	alias = alias[strings.LastIndexByte(alias, '/')+1:]
	if name == "" || alias == "" || strings.ContainsAny(alias, " \t\r\n#:") {
		return "", "", invalid("bad format for links: %s", link)
	}
	return name, alias, nil
}

// link checks the links of a new container and writes them as docker shows them. On a user's network they are the
// endpoint's: the name server knows them.
func (e *Engine) link(name string, h *docker.HostConfig, endpoints map[string]*network.EndpointSettings) error {
	var links []string
	for _, l := range h.Links {
		target, alias, err := cutLink(l)
		if err != nil {
			return err
		}
		c, err := e.index.find(target)
		if err != nil {
			err = asInvalid(err)
			if f, ok := fault.As(err); ok {
				f.Words = "could not get container for " + target + ": no such container"
			}
			return err
		}
		d, _ := c.look()
		if d.HostConfig.NetworkMode.IsHost() {
			return invalid("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
		}
		if !h.NetworkMode.IsUserDefined() {
			links = append(links, fmt.Sprintf("/%s:/%s/%s", d.Name, name, alias))
			continue
		}
		for network, ep := range endpoints {
			endpoints[network] = withLink(ep, d.Name, alias)
		}
	}
	h.Links = links
	return nil
}

func withLink(ep *network.EndpointSettings, target, alias string) *network.EndpointSettings {
	if ep = ep.Copy(); ep == nil {
		ep = &network.EndpointSettings{}
	}
	if l := target + ":" + alias; !slices.Contains(ep.Links, l) {
		ep.Links = append(ep.Links, l)
	}
	return ep
}

// withLinks checks the links of an endpoint that is to be connected.
func (e *Engine) withLinks(s *network.EndpointSettings) (*network.EndpointSettings, error) {
	if s == nil || len(s.Links) == 0 {
		return s, nil
	}
	s = s.Copy()
	for i, l := range s.Links {
		target, alias, err := cutLink(l)
		if err != nil {
			return nil, err
		}
		if _, err := e.index.find(target); err != nil {
			return nil, err
		}
		s.Links[i] = target + ":" + alias
	}
	return s, nil
}

// linkLines are the lines of the hosts file for the containers that a container on the default bridge is linked to. They
// must run.
func (e *Engine) linkLines(d *definition) ([]string, error) {
	var lines []string
	for _, l := range d.HostConfig.Links {
		target, alias, err := cutLink(l)
		if err != nil {
			return nil, err
		}
		c, err := e.index.find(target)
		if err != nil {
			return nil, fmt.Errorf("cannot link to /%s: %w", target, err)
		}
		other, st := c.look()
		ep := st.Networks[network.NetworkBridge]
		if !st.Phase.alive() || ep == nil || !ep.IPAddress.IsValid() {
			return nil, fmt.Errorf("Cannot link to a non running container: /%s AS /%s/%s: %w", other.Name, d.Name, alias, errdefs.ErrConflict) //nolint:staticcheck // docker's words
		}
		names := alias + " " + other.Config.Hostname
		if other.Name != alias {
			names += " " + other.Name
		}
		lines = append(lines, fmt.Sprintf("%s\t%s\n", ep.IPAddress, names))
	}
	return lines, nil
}

// relink renews the hosts files of those that are linked to a container that has started: it has another address.
func (e *Engine) relink(d *definition) {
	for _, c := range e.index.all() {
		other, st := c.look()
		if len(other.HostConfig.Links) == 0 || !st.Phase.alive() || other.ID == d.ID {
			continue
		}
		if slices.ContainsFunc(other.HostConfig.Links, func(l string) bool { return strings.HasPrefix(l, "/"+d.Name+":") }) {
			e.rewriteHosts(c)
		}
	}
}
