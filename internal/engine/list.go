package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/filter"
)

// ListOptions for List.
type ListOptions struct {
	All, Size bool
	Limit     int
	Filters   filter.Args
}

// entry is a container as it was when a list began.
type entry struct {
	c   *container
	def *definition
	st  state
}

// List is docker ps: the newest first, only those that run unless All, Limit or a filter by state asks for others.
func (e *Engine) List(ctx context.Context, o ListOptions) ([]Summary, error) {
	match, err := e.filter(ctx, o)
	if err != nil {
		return nil, err
	}
	list := make([]Summary, 0, 16)
	for _, n := range e.entries() {
		if o.Limit > 0 && len(list) == o.Limit {
			break
		}
		if !match(n) {
			continue
		}
		s := e.summary(n)
		if o.Size {
			if s.SizeRw, s.SizeRootFs, err = e.size(ctx, n.def); err != nil {
				return nil, err
			}
		}
		list = append(list, s)
	}
	return list, nil
}

// entries are all containers, the newest first.
func (e *Engine) entries() []entry {
	all := e.index.all()
	list := make([]entry, len(all))
	for i, c := range all {
		d, st := c.look()
		list[i] = entry{c, d, st}
	}
	slices.SortFunc(list, func(a, b entry) int {
		return cmp.Or(b.def.Created.Compare(a.def.Created), cmp.Compare(a.def.ID, b.def.ID))
	})
	return list
}

func (e *Engine) summary(n entry) Summary {
	d := n.def
	path, args := d.command()
	s := Summary{Summary: docker.Summary{
		ID: d.ID, Names: []string{"/" + d.Name}, Image: d.Config.Image, ImageID: d.Image.String(),
		ImageManifestDescriptor: d.Manifest, Command: commandLine(path, args), Created: d.Created.Unix(),
		Ports: portList(d, n.st), Labels: d.Config.Labels, State: phaseNames[n.st.Phase], Status: n.status(time.Now()),
		Health: &docker.HealthSummary{Status: docker.NoHealthcheck},
	}}
	if !n.st.Phase.alive() {
		s.KistExit = n.st.ended()
	}
	if s.Labels == nil {
		s.Labels = map[string]string{}
	}
	s.HostConfig.NetworkMode = string(d.HostConfig.NetworkMode)
	s.HostConfig.Annotations = d.HostConfig.Annotations
	s.NetworkSettings = &docker.NetworkSettingsSummary{Networks: e.networksOf(d, n.st)}
	s.Mounts = make([]docker.MountPoint, 0, len(d.Mounts))
	for i := range d.Mounts {
		s.Mounts = append(s.Mounts, d.Mounts[i].shown())
	}
	if h := n.c.health(); h != nil {
		s.Health = &docker.HealthSummary{Status: h.Status, FailingStreak: h.FailingStreak}
	}
	return s
}

// commandLine is the command as docker shows it: words with blanks in single quotes.
func commandLine(path string, args []string) string {
	var b strings.Builder
	b.WriteString(path)
	for _, a := range args {
		b.WriteByte(' ')
		if strings.Contains(a, " ") {
			b.WriteString("'" + a + "'")
			continue
		}
		b.WriteString(a)
	}
	return b.String()
}

// status is docker ps's words for the state.
func (n entry) status(now time.Time) string {
	st := n.st
	since := func(t time.Time) string { return units.HumanDuration(now.Sub(t)) }
	switch st.Phase {
	case paused:
		return "Up " + since(st.StartedAt) + " (Paused)"
	case running:
		switch st.Health {
		case "", docker.NoHealthcheck:
			return "Up " + since(st.StartedAt)
		case docker.Starting:
			return "Up " + since(st.StartedAt) + " (health: starting)"
		}
		return "Up " + since(st.StartedAt) + " (" + string(st.Health) + ")"
	case restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", st.ExitCode, since(st.FinishedAt))
	case removing:
		return "Removal In Progress"
	case created:
		return "Created"
	}
	return fmt.Sprintf("Exited (%d) %s ago", st.ExitCode, since(st.FinishedAt))
}

// portList is every published and exposed port, in a steady order.
func portList(d *definition, st state) []docker.PortSummary {
	list := []docker.PortSummary{}
	for p, bindings := range st.Ports {
		for _, b := range bindings {
			public, err := strconv.ParseUint(b.HostPort, 10, 16)
			if err != nil {
				continue
			}
			list = append(list, docker.PortSummary{IP: b.HostIP, PrivatePort: p.Num(), PublicPort: uint16(public), Type: string(p.Proto())})
		}
	}
	if st.Phase.alive() {
		for p := range d.Config.ExposedPorts {
			if len(st.Ports[p]) == 0 {
				list = append(list, docker.PortSummary{PrivatePort: p.Num(), Type: string(p.Proto())})
			}
		}
	}
	slices.SortFunc(list, func(a, b docker.PortSummary) int {
		return cmp.Or(cmp.Compare(a.PrivatePort, b.PrivatePort), cmp.Compare(a.PublicPort, b.PublicPort),
			cmp.Compare(a.Type, b.Type), a.IP.Compare(b.IP))
	})
	return list
}

// networksOf is the container's networks: as wired while it runs, as wished for otherwise, with the ids that they have now.
func (e *Engine) networksOf(d *definition, st state) map[string]*network.EndpointSettings {
	if st.Networks != nil {
		return st.Networks
	}
	networks := make(map[string]*network.EndpointSettings, len(d.Endpoints))
	for name, wish := range d.Endpoints {
		if wish == nil {
			wish = &network.EndpointSettings{}
		}
		shown := *wish
		shown.NetworkID = e.networks.ID(name)
		networks[name] = &shown
	}
	return networks
}

// size is what the container's writable layer and its log occupy, and that with its image.
func (e *Engine) size(ctx context.Context, d *definition) (rw, root int64, err error) {
	rw, err = e.cfg.Layers.Usage(d.ID)
	if errdefs.IsNotFound(err) { // It is being removed.
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	rw += e.logSize(d)
	root = rw
	if image, err := e.cfg.Images.Get(ctx, d.Image.String()); err == nil {
		for _, l := range image.Layers {
			if n, err := e.cfg.Layers.Size(l); err == nil {
				root += n
			}
		}
	}
	return rw, root, nil
}
