package dns

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/testbed/suite"
)

// loopbackUp sets the loopback of the calling thread's namespace up.
func loopbackUp(t testing.TB) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	r.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r); err != nil {
		t.Fatal(err)
	}
}

// box is a container's network namespace: a thread that is in it.
type box struct {
	t     testing.TB
	calls chan func()
}

func newBox(t testing.TB) *box {
	t.Helper()
	suite.NeedNetwork(t)
	b := &box{t, make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		ready <- err
		for f := range b.calls {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(b.calls) })
	b.do(func() { loopbackUp(t) })
	return b
}

func (b *box) do(f func()) {
	done := make(chan struct{})
	b.calls <- func() { defer close(done); f() }
	<-done
}

func (b *box) listen() (s Sockets) {
	b.t.Helper()
	var err error
	b.do(func() { s, err = Listen() })
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *box) dial(network, to string) (c net.Conn) {
	b.t.Helper()
	var err error
	b.do(func() { c, err = net.Dial(network, to) })
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	return c
}

// ask sends a question over UDP, or TCP, and returns the answer; the zero message if there is none within the time.
func ask(t testing.TB, c net.Conn, name string, kind dnsmessage.Type, opts ...func(*dnsmessage.Builder)) *dnsmessage.Message {
	t.Helper()
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 77, RecursionDesired: true})
	must(t, b.StartQuestions())
	must(t, b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}))
	for _, o := range opts {
		o(&b)
	}
	p, err := b.Finish()
	must(t, err)
	return exchange(t, c, p)
}

func exchange(t testing.TB, c net.Conn, p []byte) *dnsmessage.Message {
	t.Helper()
	must(t, c.SetDeadline(time.Now().Add(6*time.Second)))
	buf := make([]byte, 65535)
	var n int
	if _, stream := c.(*net.TCPConn); stream {
		_, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...))
		must(t, err)
		_, err = io.ReadFull(c, buf[:2])
		must(t, err)
		n = int(binary.BigEndian.Uint16(buf))
		_, err = io.ReadFull(c, buf[:n])
		must(t, err)
	} else {
		_, err := c.Write(p)
		must(t, err)
		n, err = c.Read(buf)
		must(t, err)
	}
	m := new(dnsmessage.Message)
	if err := m.Unpack(buf[:n]); err != nil {
		t.Fatalf("answer %x: %v", buf[:n], err)
	}
	if m.ID != binary.BigEndian.Uint16(p) || !m.Response {
		t.Fatalf("answer %+v", m.Header)
	}
	return m
}

func edns(size int) func(*dnsmessage.Builder) {
	return func(b *dnsmessage.Builder) {
		_ = b.StartAdditionals()
		var h dnsmessage.ResourceHeader
		_ = h.SetEDNS0(size, dnsmessage.RCodeSuccess, false)
		_ = b.OPTResource(h, dnsmessage.OPTResource{})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// said is what an answer comes to: "NXDOMAIN", or the records' data.
func said(m *dnsmessage.Message) string {
	words := []string{strings.TrimPrefix(m.RCode.String(), "RCode")}
	for _, r := range m.Answers {
		switch b := r.Body.(type) {
		case *dnsmessage.AResource:
			words = append(words, netip.AddrFrom4(b.A).String())
		case *dnsmessage.AAAAResource:
			words = append(words, netip.AddrFrom16(b.AAAA).String())
		case *dnsmessage.PTRResource:
			words = append(words, b.PTR.String())
		case *dnsmessage.TXTResource:
			words = append(words, "TXT")
		default:
			words = append(words, r.Header.Type.String())
		}
	}
	return strings.Join(words, " ")
}

// upstream is a resolver at an address of the namespace that the tests run in.
type upstream struct {
	udp net.PacketConn
	tcp net.Listener

	mu     sync.Mutex
	asked  []string
	answer func(q dnsmessage.Question, b *dnsmessage.Builder, h *dnsmessage.Header) // nil: silence
	wg     sync.WaitGroup
}

// say has it answer from now on.
func (u *upstream) say(answer func(dnsmessage.Question, *dnsmessage.Builder, *dnsmessage.Header)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answer = answer
}

func (u *upstream) count(name string) (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, a := range u.asked {
		if a == name {
			n++
		}
	}
	return n
}

func newUpstream(t testing.TB, addr string) *upstream {
	t.Helper()
	suite.NeedNetwork(t)
	loopbackUp(t)
	u := &upstream{}
	var err error
	u.udp, err = net.ListenPacket("udp", addr+":53")
	must(t, err)
	u.tcp, err = net.Listen("tcp", addr+":53")
	must(t, err)
	u.start(t)
	return u
}

func (u *upstream) start(t testing.TB) {
	u.wg.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := u.udp.ReadFrom(buf)
			if err != nil {
				return
			}
			if p := u.reply(buf[:n], true); p != nil {
				_, _ = u.udp.WriteTo(p, from)
			}
		}
	})
	u.wg.Go(func() {
		for {
			c, err := u.tcp.Accept()
			if err != nil {
				return
			}
			if p, err := readMessage(c); err == nil {
				p = u.reply(p, false)
				_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...))
			}
			c.Close()
		}
	})
	t.Cleanup(func() {
		u.udp.Close()
		u.tcp.Close()
		u.wg.Wait()
	})
}

func (u *upstream) reply(p []byte, packet bool) []byte {
	var m dnsmessage.Message
	if m.Unpack(p) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked = append(u.asked, q.Name.String())
	if u.answer == nil {
		return nil
	}
	h := dnsmessage.Header{ID: m.ID, Response: true, RecursionDesired: true, RecursionAvailable: true}
	build := func() []byte {
		b := dnsmessage.NewBuilder(nil, h)
		b.EnableCompression()
		_ = b.StartQuestions()
		_ = b.Question(q)
		_ = b.StartAnswers()
		u.answer(q, &b, &h)
		_ = b.StartAdditionals()
		var opt dnsmessage.ResourceHeader
		_ = opt.SetEDNS0(1232, dnsmessage.RCodeSuccess, false)
		_ = b.OPTResource(opt, dnsmessage.OPTResource{})
		p, err := b.Finish()
		if err != nil {
			panic(err)
		}
		return p
	}
	out := build()
	binary.BigEndian.PutUint16(out[2:], binary.BigEndian.Uint16(out[2:])|uint16(h.RCode))
	if packet && len(out) > askedSize {
		h.Truncated = true
		b := dnsmessage.NewBuilder(nil, h)
		_ = b.StartQuestions()
		_ = b.Question(q)
		out, _ = b.Finish()
	}
	return out
}

// standard answers for names that tests use.
func standard(q dnsmessage.Question, b *dnsmessage.Builder, h *dnsmessage.Header) {
	head := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 300}
	soa := func() {
		_ = b.StartAuthorities()
		_ = b.SOAResource(dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("example."), Class: q.Class, TTL: 60},
			dnsmessage.SOAResource{NS: dnsmessage.MustNewName("ns.example."), MBox: dnsmessage.MustNewName("me.example."), MinTTL: 30})
	}
	switch name := strings.ToLower(q.Name.String()); {
	case strings.HasPrefix(name, "large.") && q.Type == dnsmessage.TypeTXT:
		for range 40 {
			_ = b.TXTResource(head, dnsmessage.TXTResource{TXT: []string{strings.Repeat("x", 200)}})
		}
	case strings.HasPrefix(name, "none."):
		h.RCode = dnsmessage.RCodeNameError
		soa()
	case strings.HasPrefix(name, "refused."):
		h.RCode = dnsmessage.RCodeRefused
	case q.Type == dnsmessage.TypeA:
		_ = b.AResource(head, dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}})
	default:
		soa()
	}
}

// resolvConf writes a file that names resolvers.
func resolvConf(t testing.TB, servers ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	writeResolv(t, path, servers...)
	return path
}

func writeResolv(t testing.TB, path string, servers ...string) {
	t.Helper()
	var b strings.Builder
	for _, s := range servers {
		b.WriteString("nameserver " + s + "\n")
	}
	must(t, os.WriteFile(path, []byte(b.String()), 0o600))
}

func open(t testing.TB, resolv string) *Server {
	t.Helper()
	s, err := Open(Config{ResolvConf: resolv})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

const server = "127.0.0.11:53"

func addrs(list ...string) (out []netip.Addr) {
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}
