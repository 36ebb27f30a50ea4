package engine

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strconv"
	"testing"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

func TestPackedPorts(t *testing.T) {
	port := func(n int, proto network.IPProtocol) network.Port {
		p, _ := network.PortFrom(uint16(n), proto)
		return p
	}
	all, all6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	m := network.PortMap{port(80, "tcp"): {{HostIP: all, HostPort: "8080"}}, port(81, "tcp"): nil, port(82, "tcp"): {}, port(83, "tcp"): {{HostPort: "9000-9010"}}, port(84, "tcp"): {{HostPort: ""}}}
	exposed := network.PortSet{port(1, "tcp"): {}}
	for n := range 10000 {
		m[port(20000+n, "tcp")] = []network.PortBinding{{HostIP: all, HostPort: strconv.Itoa(30000 + n)}, {HostIP: all6, HostPort: strconv.Itoa(30000 + n)}}
		m[port(20000+n, "udp")] = []network.PortBinding{{HostPort: strconv.Itoa(20000 + n)}}
		exposed[port(20000+n, "tcp")] = struct{}{}
	}
	for _, n := range []int{0, 1, 9000} { // holes
		delete(m, port(20500+n, "tcp"))
	}
	before := definition{ID: "x", Config: &docker.Config{ExposedPorts: exposed}, HostConfig: &docker.HostConfig{PortBindings: m}}
	raw, err := json.Marshal(before.packed())
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) > 20000 {
		t.Errorf("the row has %d bytes", len(raw))
	}
	var after definition
	if err := json.Unmarshal(raw, &after); err != nil {
		t.Fatal(err)
	}
	after.unpack()
	if !reflect.DeepEqual(after.Config.ExposedPorts, exposed) || after.Bound != nil || after.Exposed != nil {
		t.Errorf("%d exposed ports of %d", len(after.Config.ExposedPorts), len(exposed))
	}
	got := after.HostConfig.PortBindings
	for p, want := range m {
		if !reflect.DeepEqual(got[p], want) && len(got[p])+len(want) > 0 {
			t.Fatalf("port %s: %v, want %v", p, got[p], want)
		}
	}
	if len(got) != len(m) || len(before.HostConfig.PortBindings) != len(m) {
		t.Errorf("%d ports of %d", len(got), len(m))
	}
	s := state{Ports: m}
	row := s.packed()
	if len(row.Ports) > 10 || len(s.Ports) != len(m) {
		t.Errorf("%d ports in the row", len(row.Ports))
	}
	row.unpack()
	if len(row.Ports) != len(m) || row.Spans != nil {
		t.Errorf("%d ports", len(row.Ports))
	}
	few := network.PortMap{port(80, "tcp"): nil}
	if rest, spans := packPorts(few); spans != nil || len(rest) != 1 {
		t.Errorf("%v %v", rest, spans)
	}
}
