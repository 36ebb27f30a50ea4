package engine

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

func TestConnectAndDisconnect(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	for _, running := range []bool{false, true} {
		name := fmt.Sprintf("box-%v", running)
		made, err := w.engine.Create(ctx, name, nil, docker.CreateRequest{Config: &docker.Config{Image: "test:1", Cmd: []string{"sleep", "1000"}}})
		w.ok(err)
		if running {
			w.ok(w.engine.Start(ctx, made.ID))
		}
		w.ok(w.engine.ConnectNetwork(ctx, "app", name, &network.EndpointSettings{Aliases: []string{"db"}}))
		see := func() map[string]*network.EndpointSettings {
			t.Helper()
			r, err := w.engine.Inspect(ctx, name, false)
			w.ok(err)
			return r.NetworkSettings.Networks
		}
		if app := see()["app"]; app == nil || len(app.Aliases) != 1 || running && app.NetworkID != "id of app" {
			t.Errorf("running %v: %+v", running, see())
		}
		if !running {
			if err := w.engine.ConnectNetwork(ctx, "app", name, nil); !errdefs.IsPermissionDenied(err) {
				t.Errorf("connected twice: %v", err)
			}
		}
		// The wish outlives the daemon.
		w.close()
		w.open()
		if see()["app"] == nil {
			t.Errorf("running %v, after a restart: %+v", running, see())
		}
		w.ok(w.engine.DisconnectNetwork(ctx, "app", name, false))
		if see()["app"] != nil {
			t.Errorf("running %v, after disconnect: %+v", running, see())
		}
		if !running {
			if err := w.engine.DisconnectNetwork(ctx, "app", name, false); !errdefs.IsPermissionDenied(err) {
				t.Errorf("disconnected twice: %v", err)
			}
			w.ok(w.engine.DisconnectNetwork(ctx, "bridge", name, false))
			c, err := w.engine.index.find(name)
			w.ok(err)
			if d, _ := c.look(); w.engine.primary(d) != network.NetworkNone {
				t.Errorf("a container that left all networks starts on %s", w.engine.primary(d))
			}
		}
	}
	host, err := w.engine.Create(ctx, "host", nil, docker.CreateRequest{
		Config: &docker.Config{Image: "test:1"}, HostConfig: &docker.HostConfig{NetworkMode: "host"},
	})
	w.ok(err)
	if err := w.engine.ConnectNetwork(ctx, "app", host.ID, nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("connected a container on the host's network: %v", err)
	}
	if err := w.engine.Publish(ctx, host.ID, network.PortMap{network.MustParsePort("80"): {{}}}, nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("published a port of a container on the host's network: %v", err)
	}
	if err := w.engine.ConnectNetwork(ctx, "app", "nosuch", nil); !errdefs.IsNotFound(err) {
		t.Errorf("connected a container that is not there: %v", err)
	}
}

func TestRebound(t *testing.T) {
	port := network.MustParsePort
	bind := func(addr, n string) network.PortBinding {
		b := network.PortBinding{HostPort: n}
		if addr != "" {
			b.HostIP = netip.MustParseAddr(addr)
		}
		return b
	}
	have := network.PortMap{port("80"): {bind("", "8080"), bind("127.0.0.1", "8081")}, port("53/udp"): {bind("", "53")}}
	for name, tt := range map[string]struct {
		add, remove network.PortMap
		want        string
	}{
		"add":            {network.PortMap{port("80"): {bind("", "8082")}}, nil, "53/udp[53] 80/tcp[8080 8081 8082]"},
		"add another":    {network.PortMap{port("81"): {bind("", "")}}, nil, "53/udp[53] 80/tcp[8080 8081] 81/tcp[]"},
		"remove one":     {nil, network.PortMap{port("80"): {bind("", "8081")}}, "53/udp[53] 80/tcp[8080]"},
		"remove all":     {nil, network.PortMap{port("80"): nil}, "53/udp[53]"},
		"exchange":       {network.PortMap{port("80"): {bind("", "1")}}, network.PortMap{port("80"): nil}, "53/udp[53] 80/tcp[1]"},
		"not there":      {nil, network.PortMap{port("80"): {bind("", "9")}}, "error"},
		"other protocol": {nil, network.PortMap{port("53"): nil}, "error"},
	} {
		next, err := rebound(have, tt.add, tt.remove, false)
		got := "error"
		if err == nil {
			var parts []string
			for _, p := range []string{"53/udp", "80/tcp", "81/tcp"} {
				if list, ok := next[port(p)]; ok {
					var numbers []string
					for _, b := range list {
						numbers = append(numbers, b.HostPort)
					}
					parts = append(parts, p+"["+strings.Join(numbers, " ")+"]")
				}
			}
			got = strings.Join(parts, " ")
		} else if !errdefs.IsNotFound(err) {
			t.Errorf("%s: %v", name, err)
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
	if len(have) != 2 || len(have[port("80")]) != 2 {
		t.Errorf("the old bindings were changed: %v", have)
	}
}

func TestCutLink(t *testing.T) {
	for link, want := range map[string]string{
		"db": "db db", "db:database": "db database", "/db:/web/database": "db database", "": "error", ":x": "error", "db:": "error", "db:a b": "error", "db:a:b": "error",
	} {
		name, alias, err := cutLink(link)
		got := name + " " + alias
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: %s, want %s", link, got, want)
		}
	}
}
