package engine

import (
	"context"
	"testing"

	"github.com/containerd/errdefs"
	docker "github.com/moby/moby/api/types/container"
	dockernet "github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/network"
)

// TestPortsOfATakeover moves what is bound from one definition to the other.
func TestPortsOfATakeover(t *testing.T) {
	port := dockernet.MustParsePort
	bind := func(n string) []dockernet.PortBinding { return []dockernet.PortBinding{{HostPort: n}} }
	have := dockernet.PortMap{port("80"): append(bind("8080"), bind("8081")...), port("53/udp"): bind("8080"), port("81"): bind("")}
	taken := dockernet.PortMap{port("90"): bind("8080")}
	left := lostPorts(have, taken)
	if len(left[port("80")]) != 1 || left[port("80")][0].HostPort != "8081" || len(left[port("53/udp")]) != 1 || len(left[port("81")]) != 1 {
		t.Errorf("left: %v", left)
	}
	if len(have[port("80")]) != 2 {
		t.Error("the old map was changed")
	}
	got := joinedPorts(joinedPorts(nil, taken), taken)
	if len(got[port("90")]) != 1 {
		t.Errorf("has: %v", got)
	}
}

// TestTakeover writes down on both sides what has changed hands, and refuses what cannot be.
func TestTakeover(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	port := dockernet.MustParsePort("80")
	bindings := dockernet.PortMap{port: {{HostPort: "8080"}}}
	w.create("old", docker.Config{Cmd: []string{"sleep", "1000"}}, docker.HostConfig{})
	w.create("new", docker.Config{Cmd: []string{"sleep", "1000"}}, docker.HostConfig{})
	take := network.Takeover{Ports: bindings, Aliases: map[string][]string{"bridge": {"web"}}}
	if err := w.engine.Takeover(ctx, "new", "old", take); !errdefs.IsConflict(err) {
		t.Errorf("of containers that do not run: %v", err)
	}
	w.ok(w.engine.Start(ctx, "old"))
	w.ok(w.engine.Start(ctx, "new"))
	if err := w.engine.Takeover(ctx, "new", "new", take); !errdefs.IsInvalidArgument(err) {
		t.Errorf("from itself: %v", err)
	}
	if err := w.engine.Takeover(ctx, "new", "nosuch", take); !errdefs.IsNotFound(err) {
		t.Errorf("from nobody: %v", err)
	}
	w.ok(w.engine.Takeover(ctx, "new", "old", take))
	see := func(name string) (*docker.HostConfig, []string) {
		c, err := w.engine.index.find(name)
		w.ok(err)
		d, _ := c.look()
		return d.HostConfig, d.Endpoints["bridge"].Copy().Aliases
	}
	for range 2 { // As well after a restart of the daemon.
		if h, names := see("new"); len(h.PortBindings[port]) != 1 || len(names) != 1 || names[0] != "web" {
			t.Errorf("the new one: %v, %v", h.PortBindings, names)
		}
		if h, names := see("old"); len(h.PortBindings[port]) != 0 || len(names) != 0 {
			t.Errorf("the old one: %v, %v", h.PortBindings, names)
		}
		w.close()
		w.open()
	}
}
