package dns

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// load asks for names over and over, each client with some questions on their way at a time, and returns the answers and
// the time each took.
func load(t testing.TB, conns []net.Conn, names []string, total int64) (answered int64, took []time.Duration) {
	t.Helper()
	var packets [][]byte
	for i, name := range names {
		m := dnsmessage.Message{Header: dnsmessage.Header{ID: uint16(i), RecursionDesired: true}, Questions: []dnsmessage.Question{
			{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
		}}
		packets = append(packets, packed(t, m))
	}
	var left atomic.Int64
	left.Store(total)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() {
			const window = 8
			buf := make([]byte, 512)
			var times []time.Duration
			var n int64
			for left.Add(-window) >= 0 {
				began := time.Now()
				for i := range window {
					if _, err := c.Write(packets[i%len(packets)]); err != nil {
						t.Error(err)
						return
					}
				}
				for range window {
					_ = c.SetReadDeadline(time.Now().Add(time.Second))
					if _, err := c.Read(buf); err != nil {
						t.Error(err)
						return
					}
					if buf[3]&rcodeMask == 0 && buf[7] > 0 {
						n++
					}
				}
				times = append(times, time.Since(began))
			}
			mu.Lock()
			defer mu.Unlock()
			answered += n
			took = append(took, times...)
		})
	}
	wg.Wait()
	slices.Sort(took)
	return answered, took
}

func BenchmarkLookups(b *testing.B) {
	up := newUpstream(b, "127.0.0.1")
	up.say(standard)
	s, boxes := town(b, resolvConf(b, "127.0.0.1"))
	for i := range 1000 {
		must(b, s.Connect(Endpoint{Container: fmt.Sprint(i), Network: "f", Names: []string{fmt.Sprintf("name-%d", i)}, Addrs: addrs("10.0.0.9")}))
	}
	for name, list := range map[string][]string{
		"containers": {"db.", "name-1.", "name-999.", "www."},
		"cached":     {"a.example.", "b.example.", "c.example."},
	} {
		b.Run(name, func(b *testing.B) {
			conns := []net.Conn{boxes["web"].dial("udp", server), boxes["db"].dial("udp", server)}
			load(b, conns, list, 100)
			b.ReportAllocs()
			b.ResetTimer()
			n, took := load(b, conns, list, int64(b.N))
			b.StopTimer()
			if n < int64(b.N)-100 {
				b.Errorf("%d answers of %d", n, b.N)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "lookups/s")
			if len(took) > 0 {
				b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "us-p99")
			}
		})
	}
}
