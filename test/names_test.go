package test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/kistdev/kist/internal/testbed"
)

// resolver answers every question for an address inside the host, until the test ends.
func resolver(t *testing.T, h *testbed.Host, at string, answer [4]byte) {
	t.Helper()
	var conn net.PacketConn
	err := h.Inside(func() (err error) {
		conn, err = net.ListenPacket("udp", at)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.Additionals = true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 600}, Body: &dnsmessage.AResource{A: answer},
				}}
			}
			if p, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(p, from)
			}
		}
	}()
}

// TestForwarding looks up names of the world: the host's resolvers are asked, on its loopback too, as they change.
func TestForwarding(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skip: hosts need root")
	}
	if _, err := os.Stat(filepath.Join(testbed.Bin(), "kist")); err != nil {
		t.Skip("skip: bin/kist is not built; run make build")
	}
	h := testbed.NewHost(t)
	file := filepath.Join(h.Dir, "resolv.conf")
	use := func(server string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("search corp.test\nnameserver "+server+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	use("127.0.0.1")
	h.Run("mount", "--bind", file, "/etc/resolv.conf")
	resolver(t, h, "127.0.0.1:53", [4]byte{192, 0, 2, 1})
	resolver(t, h, "127.0.0.2:53", [4]byte{192, 0, 2, 2})
	h.StartDaemon()
	h.Run("kist", "load", "-q", "-i", testbed.Busybox.MustArchive(t))
	h.Run("kist", "network", "create", "street")
	h.Run("kist", "network", "create", "--internal", "yard")
	for name, network := range map[string]string{"house": "street", "plain": "bridge", "shed": "yard"} {
		h.Run("kist", "run", "-d", "--name", name, "--network", network, "kist.test/busybox", "sleep", "1000")
	}
	lookup := func(container, want string) error {
		out, err := h.Try("kist", "exec", container, "nslookup", "-type=a", "www.example.test")
		if !strings.Contains(out, want) {
			return fmt.Errorf("%s: %s: %w", container, out, errors.Join(err, errors.New("not as wanted")))
		}
		return nil
	}
	if err := errors.Join(lookup("house", "192.0.2.1"), lookup("plain", "192.0.2.1"), lookup("shed", "NXDOMAIN")); err != nil {
		t.Error(err)
	}
	if out := h.Run("kist", "exec", "house", "cat", "/etc/resolv.conf"); !strings.Contains(out, "search corp.test") {
		t.Errorf("resolv.conf: %s", out)
	}
	use("127.0.0.2")
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = errors.Join(lookup("house", "192.0.2.2"), lookup("plain", "192.0.2.2")); err == nil {
			break
		}
	}
	if err != nil {
		t.Errorf("after the host's resolvers have changed: %v", err)
	}
	// A resolver that only the container reaches: its own loopback.
	h.Run("kist", "run", "-d", "--name", "own", "--network", "street", "--dns", "127.0.0.1", "kist.test/busybox", "sleep", "1000")
	if err := lookup("own", "192.0.2"); err == nil {
		t.Error("a container's own server is another one's")
	}
}
