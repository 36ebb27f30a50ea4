package bench

import (
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
)

// TestFlush measures how long a published port is gone after somebody else's `nft flush ruleset`, while clients ask for it
// all the time, on a host with 30 networks and 10,000 further ports.
func TestFlush(t *testing.T) {
	want(t, "flush")
	k := kist(t)
	if err := loaded(t, k, testbed.Busybox); err != nil {
		t.Fatal(err)
	}
	for n := range 30 {
		if err := k.do("network", "create", "net"+strconv.Itoa(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.do("run", "-d", "--network", "net7", "-p", "8080:80", "-p", "20000-29999:20000-29999", busybox, "httpd", "-f", "-h", "/etc"); err != nil {
		t.Fatal(err)
	}
	answers := func() bool {
		var c net.Conn
		err := k.host.Inside(func() (err error) {
			c, err = net.DialTimeout("tcp", "127.0.0.1:8080", 20*time.Millisecond)
			return err
		})
		if err == nil {
			c.Close()
		}
		return err == nil
	}
	var asked atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 2 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(2 * time.Millisecond):
					answers()
					asked.Add(1)
				}
			}
		})
	}
	defer clients.Wait()
	defer close(stop)

	var gone []time.Duration
	for range 20 {
		for !answers() {
			time.Sleep(time.Millisecond)
		}
		if _, err := k.host.Try("nft", "flush", "ruleset"); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for !answers() {
			time.Sleep(time.Millisecond)
		}
		gone = append(gone, time.Since(begin))
		time.Sleep(200 * time.Millisecond)
	}
	t.Logf("\nflush of the whole ruleset, 30 networks, 10,000 ports, %d connections meanwhile: back after %s, at most %s",
		asked.Load(), ms(quantile(gone, 0.5)), ms(quantile(gone, 1)))
}
