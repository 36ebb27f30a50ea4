package cli

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/network"
)

func TestReachable(t *testing.T) {
	all, all6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	ports := network.PortMap{
		network.MustParsePort("80"):     {{HostIP: all, HostPort: "8080"}, {HostIP: all6, HostPort: "8080"}},
		network.MustParsePort("81"):     {{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: "8081"}, {HostIP: all6, HostPort: "8082"}},
		network.MustParsePort("82"):     {{HostIP: netip.MustParseAddr("192.0.2.1"), HostPort: "82"}},
		network.MustParsePort("83"):     nil,
		network.MustParsePort("53/udp"): {{HostIP: all, HostPort: "53"}},
	}
	for n := range 100 {
		ports[network.MustParsePort(fmt.Sprint(9000+n))] = []network.PortBinding{{HostIP: all, HostPort: fmt.Sprint(19000 + n)}, {HostIP: all6, HostPort: fmt.Sprint(19000 + n)}}
	}
	want := `http://localhost:8080 (port 80/tcp, reachable from this machine and its network)
http://localhost:8081 (port 81/tcp, reachable from this machine only)
http://[::]:8082 (port 81/tcp, reachable from this machine and its network)
http://192.0.2.1:82 (port 82/tcp, reachable from whoever reaches that address)
localhost:19000-19099 (ports 9000-9099/tcp, reachable from this machine and its network)
localhost:53 (port 53/udp, reachable from this machine and its network)`
	if got := strings.Join(reachable(ports), "\n"); got != want {
		t.Errorf("%s", got)
	}
}
