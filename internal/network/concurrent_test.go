package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
)

// Eight clients start and stop containers at once. No two containers ever have the same address or port.
func TestConcurrentJoins(t *testing.T) {
	l := newLab(t, Config{})
	var mu sync.Mutex
	addrs := map[netip.Addr]string{}
	ports8080 := 0
	begin := func(id string, s *Sandbox, port bool) {
		mu.Lock()
		defer mu.Unlock()
		a := s.Networks["bridge"].IPAddress
		if other, ok := addrs[a]; ok {
			t.Errorf("%s and %s both have %s", id, other, a)
		}
		addrs[a] = id
		if port {
			if ports8080++; ports8080 > 1 {
				t.Error("two containers have port 8080")
			}
		}
	}
	end := func(s *Sandbox, port bool) {
		mu.Lock()
		defer mu.Unlock()
		delete(addrs, s.Networks["bridge"].IPAddress)
		if port {
			ports8080--
		}
	}
	var wg sync.WaitGroup
	for client := range 8 {
		wg.Go(func() {
			for round := range 12 {
				id := fmt.Sprintf("c%d-%d", client, round)
				r := JoinRequest{ContainerID: id, Ports: ports(t, "8080>80", ">81/udp")}
				s, err := l.m.Join(context.Background(), r)
				port := err == nil
				if errors.Is(err, errdefs.ErrConflict) {
					r.Ports = ports(t, ">81/udp")
					s, err = l.m.Join(context.Background(), r)
				}
				if err != nil {
					t.Errorf("%s: %v", id, err)
					return
				}
				begin(id, s, port)
				if _, err := l.m.Inspect(context.Background(), "bridge"); err != nil {
					t.Error(err)
				}
				s.Close()
				end(s, port)
				if err := l.m.Leave(context.Background(), id); err != nil {
					t.Errorf("%s: %v", id, err)
				}
			}
		})
	}
	wg.Wait()
	if len(l.m.ports.held) != 0 || len(l.m.fw.Ports()) != 0 || len(l.m.attached) != 0 {
		t.Errorf("left: ports %v, rules %v, containers %v", l.m.ports.held, l.m.fw.Ports(), l.m.attached)
	}
}
