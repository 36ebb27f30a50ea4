package network

import (
	"net/netip"
	"testing"

	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/network/firewall"
)

func TestDivide(t *testing.T) {
	port := network.MustParsePort("80/tcp")
	held := published{port, firewall.One(every, network.TCP, 8080), 7}
	six := published{port, firewall.One(every6, network.TCP, 8080), 8}
	other := network.MustParsePort("81/tcp")
	for _, test := range []struct {
		name              string
		have              []published
		want              wish
		gone, moved, rest int
	}{
		{"the same", []published{held}, wish{port: port, addrs: []netip.Addr{every}, from: 8080, to: 8080}, 1, 1, 0},
		{"to another port of the container", []published{held}, wish{port: other, addrs: []netip.Addr{every}, from: 8080, to: 8080}, 1, 1, 0},
		{"on both families", []published{held, six}, wish{port: port, addrs: []netip.Addr{every, every6}, from: 8080, to: 8080}, 2, 2, 0},
		{"one of two", []published{held}, wish{port: port, addrs: []netip.Addr{every, every6}, from: 8080, to: 8080}, 1, 1, 1},
		{"another port", []published{held}, wish{port: port, addrs: []netip.Addr{every}, from: 8081, to: 8081}, 0, 0, 1},
		{"another address", []published{held}, wish{port: port, addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, from: 8080, to: 8080}, 0, 0, 1},
		{"any", []published{held}, wish{port: port, addrs: []netip.Addr{every}}, 0, 0, 1},
		{"of a range", []published{held}, wish{port: port, addrs: []netip.Addr{every}, from: 8080, to: 8090}, 0, 0, 1},
		{"nothing is held", nil, wish{port: port, addrs: []netip.Addr{every}, from: 8080, to: 8080}, 0, 0, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			gone, moved, rest := divide(test.have, []wish{test.want})
			if len(gone) != test.gone || len(moved) != test.moved || len(rest) != test.rest {
				t.Fatalf("%d gone, %d moved, %d left; want %d, %d, %d", len(gone), len(moved), len(rest), test.gone, test.moved, test.rest)
			}
			for i := range moved {
				if moved[i].port != test.want.port || moved[i].sock != gone[i].sock || moved[i].host != gone[i].host {
					t.Errorf("moved %+v of %+v", moved[i], gone[i])
				}
			}
		})
	}
}

func TestRealiased(t *testing.T) {
	got := Realiased([]string{"a", "b", "c"}, []string{"c", "d"}, []string{"a"})
	if len(got) != 3 || got[0] != "b" || got[1] != "c" || got[2] != "d" {
		t.Errorf("got %v", got)
	}
}
