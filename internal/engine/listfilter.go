package engine

import (
	"context"
	"slices"
	"strconv"
	"strings"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/filter"
)

// filter turns the options into one question for each container.
func (e *Engine) filter(ctx context.Context, o ListOptions) (func(entry) bool, error) {
	f := o.Filters
	if err := checkListFilters(f); err != nil {
		return nil, err
	}
	var codes []int
	for _, text := range f["exited"] {
		code, err := strconv.Atoi(text)
		if err != nil {
			return nil, invalid("invalid filter 'exited=%s'", text)
		}
		codes = append(codes, code)
	}
	task, err := f.Bool("is-task", false)
	if err != nil {
		return nil, err
	}
	checks := []func(entry) bool{
		func(n entry) bool { return !task }, // There are no swarm tasks here.
		func(n entry) bool { return f.Prefix("id", n.def.ID) },
		func(n entry) bool { return matchName(f, n.def.Name) },
		func(n entry) bool { return f.Labels("label", n.def.Config.Labels) },
		func(n entry) bool { return f.Labels("annotation", n.def.HostConfig.Annotations) },
		func(n entry) bool { return f.Exact("status", n.st.Phase.String()) },
		func(n entry) bool { return f.Exact("health", string(healthOf(n.st))) },
		func(n entry) bool {
			return codes == nil || n.st.Phase == exited && slices.Contains(codes, n.st.ExitCode)
		},
		func(n entry) bool { return matchVolume(f, n.def) },
		func(n entry) bool { return e.matchNetwork(f, n) },
	}
	if !o.All && o.Limit <= 0 && !f.Has("status") && !f.Has("exited") {
		checks = append(checks, func(n entry) bool { return n.st.Phase.alive() || n.st.Phase == restarting })
	}
	for _, more := range []func() (func(entry) bool, error){
		func() (func(entry) bool, error) { return e.byAge(f) },
		func() (func(entry) bool, error) { return e.byImage(ctx, f) },
		func() (func(entry) bool, error) { return byPort(f) },
	} {
		check, err := more()
		if err != nil {
			return nil, err
		}
		checks = append(checks, check)
	}
	return func(n entry) bool {
		for _, check := range checks {
			if !check(n) {
				return false
			}
		}
		return true
	}, nil
}

// checkListFilters refuses filters that docker does not know, and states that no container has.
func checkListFilters(f filter.Args) error {
	err := f.Validate("ancestor", "annotation", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name",
		"network", "publish", "since", "status", "volume")
	if err != nil {
		return err
	}
	for _, s := range f["status"] {
		if s != "dead" {
			if err := docker.ValidateContainerState(docker.ContainerState(s)); err != nil {
				return invalid("invalid filter 'status=%s'", s)
			}
		}
	}
	for _, h := range f["health"] {
		if err := docker.ValidateHealthStatus(docker.HealthStatus(h)); err != nil {
			return invalid("invalid filter 'health=%s'", h)
		}
	}
	return nil
}

func always(entry) bool { return true }

// matchName: docker matches with and without the leading slash.
func matchName(f filter.Args, name string) bool {
	return f.Match("name", name) || f.Match("name", "/"+name)
}

func healthOf(st state) docker.HealthStatus {
	if st.Health == "" {
		return docker.NoHealthcheck
	}
	return st.Health
}

func matchVolume(f filter.Args, d *definition) bool {
	return !f.Has("volume") || slices.ContainsFunc(d.Mounts, func(m mountPoint) bool {
		return slices.Contains(f["volume"], m.Name) || slices.Contains(f["volume"], m.Target) ||
			m.Name == "" && slices.Contains(f["volume"], m.Source)
	})
}

func (e *Engine) matchNetwork(f filter.Args, n entry) bool {
	if !f.Has("network") {
		return true
	}
	for name, ep := range e.networksOf(n.def, n.st) {
		if slices.Contains(f["network"], name) {
			return true
		}
		for _, want := range f["network"] {
			if ep.NetworkID != "" && strings.HasPrefix(ep.NetworkID, want) {
				return true
			}
		}
	}
	return false
}

// byAge is the filters before and since, which name a container.
func (e *Engine) byAge(f filter.Args) (func(entry) bool, error) {
	checks := []func(entry) bool{}
	for _, key := range []string{"before", "since"} {
		for _, ref := range f[key] {
			c, err := e.index.find(ref)
			if err != nil {
				return nil, err
			}
			d, _ := c.look()
			older := key == "before"
			checks = append(checks, func(n entry) bool {
				if older {
					return n.def.Created.Before(d.Created)
				}
				return n.def.Created.After(d.Created)
			})
		}
	}
	return func(n entry) bool {
		return !slices.ContainsFunc(checks, func(check func(entry) bool) bool { return !check(n) })
	}, nil
}

// byImage is the filter ancestor: containers of an image, or of one made from it.
func (e *Engine) byImage(ctx context.Context, f filter.Args) (func(entry) bool, error) {
	if !f.Has("ancestor") {
		return always, nil
	}
	bases := map[digest.Digest][]digest.Digest{}
	for _, ref := range f["ancestor"] {
		all, err := e.cfg.Images.All(ctx, ref)
		if err != nil {
			continue // An unknown one has no containers.
		}
		for _, image := range all {
			bases[image.ID] = image.Layers
		}
	}
	known := map[digest.Digest]bool{}
	return func(n entry) bool {
		match, seen := known[n.def.Image]
		if !seen {
			match = e.descends(ctx, n.def.Image, bases)
			known[n.def.Image] = match
		}
		return match
	}, nil
}

func (e *Engine) descends(ctx context.Context, id digest.Digest, bases map[digest.Digest][]digest.Digest) bool {
	if _, ok := bases[id]; ok {
		return true
	}
	image, err := e.cfg.Images.Get(ctx, id.String())
	if err != nil {
		return false
	}
	for _, layers := range bases {
		if n := len(layers); n > 0 && len(image.Layers) > n && slices.Equal(layers, image.Layers[:n]) {
			return true
		}
	}
	return false
}

// byPort is the filters publish and expose: a port or a range, with or without a protocol.
func byPort(f filter.Args) (func(entry) bool, error) {
	published, err := ranges(f["publish"])
	if err != nil {
		return nil, err
	}
	exposed, err := ranges(f["expose"])
	if err != nil {
		return nil, err
	}
	in := func(list []network.PortRange, num uint16, proto network.IPProtocol) bool {
		return slices.ContainsFunc(list, func(r network.PortRange) bool {
			return num >= r.Start() && num <= r.End() && proto == r.Proto()
		})
	}
	return func(n entry) bool {
		ports := portList(n.def, n.st)
		okPublished := len(published) == 0 || slices.ContainsFunc(ports, func(p docker.PortSummary) bool {
			return p.PublicPort != 0 && in(published, p.PublicPort, network.IPProtocol(p.Type))
		})
		okExposed := len(exposed) == 0
		for p := range n.def.Config.ExposedPorts {
			okExposed = okExposed || in(exposed, p.Num(), p.Proto())
		}
		return okPublished && okExposed
	}, nil
}

func ranges(texts []string) ([]network.PortRange, error) {
	var list []network.PortRange
	for _, text := range texts {
		r, err := network.ParsePortRange(text)
		if err != nil {
			return nil, invalid("invalid port filter %q: %v", text, err)
		}
		list = append(list, r)
	}
	return list, nil
}
