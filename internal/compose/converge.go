package compose

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/kistdev/kist/internal/compose/convert"
	"github.com/kistdev/kist/internal/compose/model"
)

// recreate says when containers are made anew.
type recreate int

// When containers are made anew: when they are no longer what their service says, always, never.
const (
	whenChanged recreate = iota
	always
	never
)

// want is what is to become of a service's containers.
type want struct {
	service  types.ServiceConfig
	hash     string
	replicas []*replica
	surplus  fleet
	// changed is set when a container was made anew or started: dependents with restart: true follow.
	changed bool
}

// replica is one container of a service.
type replica struct {
	number int
	// now is the container there is; why says why it is made anew, empty if it is not.
	now *found
	why string
	// id and name are the container's that serves in the end. fresh is one that was made and has not taken now's place.
	id, name string
	fresh    bool
}

// label is what the replica is called where the project is known.
func (r *replica) label(w *want) string {
	if w.service.ContainerName != "" {
		return w.service.ContainerName
	}
	return fmt.Sprintf("%s-%d", w.service.Name, r.number)
}

// policy is when a service's containers are made anew.
func (g *goal) policy(service string) recreate {
	if g.recreate == never || g.recreate == whenChanged {
		return g.recreate
	}
	if g.recreateDeps || len(g.targets) == 0 || slices.Contains(g.targets, service) {
		return always
	}
	return whenChanged
}

// decide says what is to become of a service's containers. What it shares with other services' is decided before.
func (g *goal) decide(name string) (*want, error) {
	svc := g.p.Services[name]
	scale := svc.GetScale()
	if scale > 1 && svc.ContainerName != "" {
		return nil, fmt.Errorf("service %s cannot have %d containers, as container_name gives all of them the name %s: %w", name, scale, svc.ContainerName, errdefs.ErrInvalidArgument)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	w := &want{service: convert.Resolve(svc, g.first)}
	w.service.CustomLabels = maps.Clone(w.service.CustomLabels)
	if w.service.CustomLabels == nil {
		w.service.CustomLabels = types.Labels{}
	}
	w.service.CustomLabels[model.LabelImage] = g.images[name].id
	hashed := w.service
	hashed.VolumesFrom = slices.Clone(hashed.VolumesFrom)
	for i, v := range hashed.VolumesFrom {
		hashed.VolumesFrom[i], _, _ = strings.Cut(v, ":")
	}
	var err error
	if w.hash, err = model.ServiceHash(hashed); err != nil {
		return nil, err
	}
	g.arrange(w, name, scale)
	g.wants[name] = w
	return w, nil
}

// arrange gives each number its container: one that can stay before one that cannot, one that runs before one that does not. What
// an interrupted command was about to replace is the last: it may be stopped in this moment.
func (g *goal) arrange(w *want, name string, scale int) {
	own := g.present.of(name).serving()
	reasons := map[*found]string{}
	policy := g.policy(name)
	for _, c := range own {
		reasons[c] = g.reason(w, c, policy)
	}
	named := func(c *found) bool { return c.name() == model.ContainerName(g.p.Name, &w.service, c.number()) }
	replaced := map[string]bool{}
	for _, c := range own {
		if c.Labels[labelBeside] == "" {
			replaced[c.Labels[model.LabelReplaces]] = true
		}
	}
	slices.SortStableFunc(own, func(a, b *found) int {
		return cmp.Or(
			cmp.Compare(btoi(reasons[a] != ""), btoi(reasons[b] != "")), cmp.Compare(btoi(replaced[a.ID]), btoi(replaced[b.ID])),
			cmp.Compare(btoi(!a.running()), btoi(!b.running())),
			cmp.Compare(btoi(lacksPorts(&w.service, a)), btoi(lacksPorts(&w.service, b))), cmp.Compare(btoi(!named(a)), btoi(!named(b))),
			cmp.Compare(a.number(), b.number()),
		)
	})
	taken := map[int]bool{}
	for _, c := range own {
		n := c.number()
		if n <= 0 || taken[n] || len(w.replicas) >= scale {
			w.surplus = append(w.surplus, c)
			continue
		}
		taken[n] = true
		w.replicas = append(w.replicas, &replica{number: n, now: c, why: reasons[c], id: c.ID, name: c.name()})
	}
	for n := 1; len(w.replicas) < scale; n++ {
		if !taken[n] {
			w.replicas = append(w.replicas, &replica{number: n})
		}
	}
	slices.SortFunc(w.replicas, func(a, b *replica) int { return cmp.Compare(a.number, b.number) })
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// reason says why a container is to be made anew; empty if it can stay.
func (g *goal) reason(w *want, c *found, policy recreate) string {
	switch policy {
	case never:
		return ""
	case always:
		return "as asked for"
	case whenChanged:
	}
	for _, other := range convert.Shared(&types.ServiceConfig{Name: w.service.Name, ContainerSpec: g.p.Services[w.service.Name].ContainerSpec}) {
		if o := g.wants[other]; o != nil && slices.ContainsFunc(o.replicas, func(r *replica) bool { return r.why != "" || r.now == nil }) {
			return "it shares with " + other + ", which is made anew"
		}
	}
	switch {
	case c.Labels[model.LabelHash] != w.hash:
		return "its configuration changed"
	case c.Labels[labelBeside] != "" && c.name() != model.ContainerName(g.p.Name, &w.service, c.number()):
		return "its update was interrupted"
	case !slices.Contains(g.images[w.service.Name].ids, c.Labels[model.LabelImage]):
		return "its image changed"
	case filesChanged(g.p, &w.service, c.Labels[labelFiles]):
		return "a config or secret changed"
	}
	if lacksPorts(&w.service, c) {
		return "its ports are not published"
	}
	if c.running() && c.NetworkSettings != nil {
		for _, key := range slices.Sorted(maps.Keys(w.service.Networks)) {
			id := g.networks[key]
			on := false
			for _, e := range c.NetworkSettings.Networks {
				on = on || e.NetworkID == id
			}
			if id != "" && !on {
				return "it is not on network " + key
			}
		}
	}
	for _, v := range w.service.Volumes {
		named, ok := g.p.Volumes[v.Source]
		if v.Type != types.VolumeTypeVolume || !ok {
			continue
		}
		for _, m := range c.Mounts {
			if m.Destination == v.Target && m.Name != "" && m.Name != named.Name {
				return "volume " + v.Source + " is another one"
			}
		}
	}
	return ""
}

// lacksPorts tells of a container that runs without a port that its service publishes: another one has taken it over.
func lacksPorts(svc *types.ServiceConfig, c *found) bool {
	if c.State != container.StateRunning || svc.NetworkMode == "host" {
		return false
	}
	published, err := convert.Ports(svc)
	if err != nil {
		return false // The container cannot be made anew either; that says why.
	}
	_, fixed := convert.Fixed(published)
	for port, bindings := range fixed {
		for _, b := range bindings {
			if !slices.ContainsFunc(c.Ports, func(p container.PortSummary) bool {
				return itoa(int(p.PublicPort)) == b.HostPort && p.PrivatePort == port.Num() && p.Type == string(port.Proto())
			}) {
				return true
			}
		}
	}
	return false
}

// first is the container that stands for a service where another one refers to it. The lock is held.
func (g *goal) first(service string) (string, bool) {
	if w := g.wants[service]; w != nil {
		for _, r := range w.replicas {
			if r.id != "" {
				return r.id, true
			}
		}
		return "", false
	}
	for _, c := range g.present.of(service).serving() {
		return c.ID, true
	}
	return "", false
}

// order are the services of the goal.
func (g *goal) order() []string { return slices.Sorted(maps.Keys(g.p.Services)) }

// links are those of a service to the containers of others, as `links` and `external_links` have them.
func (g *goal) links(svc *types.ServiceConfig) []string {
	var out []string
	for _, l := range svc.Links {
		name, alias, ok := strings.Cut(l, ":")
		if !ok {
			alias = name
		}
		target := g.p.Services[name]
		for n := 1; n <= max(target.GetScale(), 1) && target.Name != ""; n++ {
			full := model.ContainerName(g.p.Name, &target, n)
			out = append(out, full+":"+alias, full+":"+fmt.Sprintf("%s-%d", name, n), full+":"+full)
		}
	}
	for _, l := range svc.ExternalLinks {
		name, alias, ok := strings.Cut(l, ":")
		if !ok {
			alias = name
		}
		out = append(out, name+":"+alias)
	}
	return out
}
