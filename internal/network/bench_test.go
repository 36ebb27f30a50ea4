package network

import (
	"context"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/api/types/network"
)

// What a start pays for its network, in the three ways it can go.
func BenchmarkJoin(b *testing.B) {
	for _, bb := range []struct {
		name  string
		r     JoinRequest
		pause time.Duration // lets the pool fill up
	}{
		{"pool", JoinRequest{ContainerID: "c"}, 12 * time.Millisecond},
		{"pool+port", JoinRequest{ContainerID: "c", Ports: network.PortMap{network.MustParsePort("80"): {{HostPort: "8080"}}}}, 12 * time.Millisecond},
		{"made", JoinRequest{ContainerID: "c", Endpoint: &network.EndpointSettings{MacAddress: network.HardwareAddr{2, 0, 0, 0, 0, 9}}}, 12 * time.Millisecond},
		{"none", JoinRequest{ContainerID: "c", Network: "none"}, 12 * time.Millisecond},
		{"back to back", JoinRequest{ContainerID: "c"}, 0},
	} {
		b.Run(bb.name, func(b *testing.B) {
			m, err := Open(context.Background(), Config{BIP: netip.MustParsePrefix("10.88.0.1/16")})
			if err != nil {
				b.Skip(err)
			}
			defer m.Close()
			defer m.Teardown(context.Background())
			if err := m.Restore(context.Background(), nil); err != nil {
				b.Fatal(err)
			}
			var total time.Duration
			for b.Loop() {
				time.Sleep(bb.pause)
				start := time.Now()
				s, err := m.Join(context.Background(), bb.r)
				total += time.Since(start)
				if err != nil {
					b.Fatal(err)
				}
				s.Close()
				if err := m.Leave(context.Background(), "c"); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(total.Microseconds())/float64(b.N), "us/join")
		})
	}
}

// What the daemon's start pays, on a host where nothing is prepared.
func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		m, err := Open(context.Background(), Config{})
		if err != nil {
			b.Skip(err)
		}
		if err := m.Restore(context.Background(), nil); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := m.Teardown(context.Background()); err != nil {
			b.Fatal(err)
		}
		if err := m.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// Eight clients at once, each for itself: how many containers a second the network could serve if nothing else were to do.
func BenchmarkParallelJoin(b *testing.B) {
	m, err := Open(context.Background(), Config{})
	if err != nil {
		b.Skip(err)
	}
	defer m.Close()
	defer m.Teardown(context.Background())
	if err := m.Restore(context.Background(), nil); err != nil {
		b.Fatal(err)
	}
	var n atomic.Int64
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			id := strconv.FormatInt(n.Add(1), 10)
			s, err := m.Join(context.Background(), JoinRequest{ContainerID: id})
			if err != nil {
				b.Error(err)
				return
			}
			s.Close()
			if err := m.Leave(context.Background(), id); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "joins/s")
}
