package engine

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/network"
)

// span is several ports in a row, each bound as the first one is, but for the host's port, which counts along. A range of
// thousands of ports is one, where a row would otherwise be a megabyte.
type span struct {
	First    network.Port
	Count    int
	Bindings []network.PortBinding `json:",omitempty"`
}

// manyPorts is from where on rows hold spans.
const manyPorts = 64

// packPorts finds the spans among many ports, and returns the rest as it is. Of few ports, all are the rest.
func packPorts(m network.PortMap) (rest network.PortMap, spans []span) {
	if len(m) < manyPorts {
		return m, nil
	}
	keys := slices.SortedFunc(maps.Keys(m), func(a, b network.Port) int {
		if c := strings.Compare(string(a.Proto()), string(b.Proto())); c != 0 {
			return c
		}
		return int(a.Num()) - int(b.Num())
	})
	rest = network.PortMap{}
	for i := 0; i < len(keys); {
		s := span{keys[i], 1, m[keys[i]]}
		for i+s.Count < len(keys) && s.holds(keys[i+s.Count], m[keys[i+s.Count]]) {
			s.Count++
		}
		i += s.Count
		if s.Count > 1 {
			spans = append(spans, s)
		} else {
			rest[s.First] = s.Bindings
		}
	}
	return rest, spans
}

// holds says whether the port is the one that follows the span.
func (s *span) holds(p network.Port, bindings []network.PortBinding) bool {
	if p.Proto() != s.First.Proto() || int(p.Num()) != int(s.First.Num())+s.Count || (bindings == nil) != (s.Bindings == nil) {
		return false
	}
	return slices.EqualFunc(s.Bindings, bindings, func(a, b network.PortBinding) bool {
		n, err := strconv.Atoi(a.HostPort)
		return err == nil && a.HostIP == b.HostIP && b.HostPort == strconv.Itoa(n+s.Count)
	})
}

// unpackPorts is what packPorts was given.
func unpackPorts(rest network.PortMap, spans []span) network.PortMap {
	if len(spans) == 0 {
		return rest
	}
	m := make(network.PortMap, len(rest))
	maps.Copy(m, rest)
	for _, s := range spans {
		for i := range s.Count {
			p, ok := network.PortFrom(s.First.Num()+uint16(i), s.First.Proto())
			if !ok {
				continue
			}
			list := slices.Clone(s.Bindings)
			for j := range list {
				if n, err := strconv.Atoi(list[j].HostPort); err == nil {
					list[j].HostPort = strconv.Itoa(n + i)
				}
			}
			m[p] = list
		}
	}
	return m
}

// packed is the state as its row has it.
func (s state) packed() *state {
	s.Ports, s.Spans = packPorts(s.Ports)
	return &s
}

// unpack is its reverse.
func (s *state) unpack() { s.Ports, s.Spans = unpackPorts(s.Ports, s.Spans), nil }

// packed is the definition as its row has it.
func (d *definition) packed() *definition {
	if len(d.HostConfig.PortBindings) < manyPorts && len(d.Config.ExposedPorts) < manyPorts {
		return d
	}
	p, host, config := *d, *d.HostConfig, *d.Config
	host.PortBindings, p.Bound = packPorts(host.PortBindings)
	exposed := make(network.PortMap, len(config.ExposedPorts))
	for port := range config.ExposedPorts {
		exposed[port] = nil
	}
	exposed, p.Exposed = packPorts(exposed)
	config.ExposedPorts = make(network.PortSet, len(exposed))
	for port := range exposed {
		config.ExposedPorts[port] = struct{}{}
	}
	p.HostConfig, p.Config = &host, &config
	return &p
}

// unpack is its reverse.
func (d *definition) unpack() {
	d.HostConfig.PortBindings, d.Bound = unpackPorts(d.HostConfig.PortBindings, d.Bound), nil
	for port := range unpackPorts(network.PortMap{}, d.Exposed) {
		if d.Config.ExposedPorts == nil {
			d.Config.ExposedPorts = network.PortSet{}
		}
		d.Config.ExposedPorts[port] = struct{}{}
	}
	d.Exposed = nil
}
