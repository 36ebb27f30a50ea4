package dns

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/kistdev/kist/internal/testbed/suite"
)

// town is a server with two networks: web, db on "front" (dual stack), db on "back"; lone on "back" only, which is internal.
func town(t testing.TB, resolv string) (*Server, map[string]*box) {
	t.Helper()
	s := open(t, resolv)
	s.PutNetwork(Network{
		ID: "f", Name: "front", Gateways: addrs("10.0.0.1", "fd00::1"),
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64")},
	})
	s.PutNetwork(Network{ID: "b", Name: "back", Gateways: addrs("10.0.1.1"), Internal: true, Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24")}})
	for _, e := range []Endpoint{
		{Container: "web", Network: "f", Names: []string{"web", "WWW", "pair", "0123456789ab"}, Addrs: addrs("10.0.0.2", "fd00::2"), Links: map[string]string{"store": "db"}},
		{Container: "db", Network: "f", Names: []string{"db", "pair"}, Addrs: addrs("10.0.0.3")},
		{Container: "db", Network: "b", Names: []string{"db"}, Addrs: addrs("10.0.1.3")},
		{Container: "lone", Network: "b", Names: []string{"lone"}, Addrs: addrs("10.0.1.4")},
	} {
		must(t, s.Connect(e))
	}
	boxes := map[string]*box{}
	for _, name := range []string{"web", "db", "lone"} {
		boxes[name] = newBox(t)
		must(t, s.Serve(name, boxes[name].listen(), Client{}))
	}
	return s, boxes
}

func TestNames(t *testing.T) {
	up := newUpstream(t, "127.0.0.1")
	up.say(standard)
	_, boxes := town(t, resolvConf(t, "127.0.0.1"))
	for _, c := range []struct {
		from, name string
		kind       dnsmessage.Type
		want       string
	}{
		{"web", "db.", dnsmessage.TypeA, "Success 10.0.0.3"},
		{"web", "Db.FRONT.", dnsmessage.TypeA, "Success 10.0.0.3"},
		{"web", "store.", dnsmessage.TypeA, "Success 10.0.0.3"},
		{"db", "store.", dnsmessage.TypeA, "Success 192.0.2.1"}, // web's own link
		{"web", "db.back.", dnsmessage.TypeA, "Success 192.0.2.1"},
		{"web", "db.", dnsmessage.TypeAAAA, "Success"},
		{"web", "db.", dnsmessage.TypeMX, "Success"},
		{"web", "www.", dnsmessage.TypeAAAA, "Success fd00::2"},
		{"web", "0123456789ab.", dnsmessage.TypeA, "Success 10.0.0.2"},
		{"web", "www.", dnsmessage.TypeALL, "Success 10.0.0.2 fd00::2"},
		{"lone", "db.", dnsmessage.TypeA, "Success 10.0.1.3"},
		{"lone", "web.", dnsmessage.TypeA, "NameError"}, // and nobody outside is asked
		{"lone", "example.", dnsmessage.TypeA, "NameError"},
		{"db", "lone.", dnsmessage.TypeA, "Success 10.0.1.4"},
		{"web", "lone.", dnsmessage.TypeA, "Success 192.0.2.1"},
		{"web", "host.docker.internal.", dnsmessage.TypeA, "Success 10.0.0.1"},
		{"web", "gateway.docker.internal.", dnsmessage.TypeAAAA, "Success fd00::1"},
		{"db", "host.kist.internal.", dnsmessage.TypeA, "Success 10.0.0.1"},
		{"lone", "host.kist.internal.", dnsmessage.TypeA, "Success 10.0.1.1"},
		{"web", "localhost.", dnsmessage.TypeA, "Success 127.0.0.1"},
		{"web", "x.invalid.", dnsmessage.TypeA, "NameError"},
		{"web", "3.0.0.10.in-addr.arpa.", dnsmessage.TypePTR, "Success db.front."},
		{"db", "4.1.0.10.in-addr.arpa.", dnsmessage.TypePTR, "Success lone.back."},
		{"web", "4.1.0.10.in-addr.arpa.", dnsmessage.TypePTR, "Success"}, // not its network: asked outside
		{"web", "9.0.0.10.in-addr.arpa.", dnsmessage.TypePTR, "NameError"},
		{"web", "1.0.0.10.in-addr.arpa.", dnsmessage.TypePTR, "Success host.kist.internal."},
		{"db", "2" + strings.Repeat(".0", 27) + ".0.0.d.f.ip6.arpa.", dnsmessage.TypePTR, "Success web.front."},
		{"web", "example.", dnsmessage.TypeA, "Success 192.0.2.1"},
		{"web", "example.", dnsmessage.TypeAAAA, "Success"},
		{"web", "none.example.", dnsmessage.TypeA, "NameError"},
		{"web", "refused.example.", dnsmessage.TypeA, "Refused"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			if got := said(ask(t, boxes[c.from].dial(network, server), c.name, c.kind)); got != c.want {
				t.Errorf("%s asks for %v %s over %s: %q, want %q", c.from, c.kind, c.name, network, got, c.want)
			}
		}
	}
	if n := up.count("web."); n != 0 {
		t.Errorf("a question of an internal network went outside, %d times", n)
	}
}

func TestTurns(t *testing.T) {
	_, boxes := town(t, resolvConf(t))
	conn := boxes["web"].dial("udp", server)
	first := map[string]int{}
	for range 10 {
		words := strings.Fields(said(ask(t, conn, "pair.", dnsmessage.TypeA)))
		if len(words) != 3 {
			t.Fatal(words)
		}
		first[words[1]]++
	}
	if first["10.0.0.2"] != 5 || first["10.0.0.3"] != 5 {
		t.Errorf("who came first: %v", first)
	}
}

func TestComesAndGoes(t *testing.T) {
	s, boxes := town(t, resolvConf(t, "127.0.0.1"))
	up := newUpstream(t, "127.0.0.1")
	up.say(func(_ dnsmessage.Question, _ *dnsmessage.Builder, h *dnsmessage.Header) {
		h.RCode = dnsmessage.RCodeNameError
	})
	conn := boxes["web"].dial("udp", server)
	check := func(name, want string) {
		t.Helper()
		if got := said(ask(t, conn, name, dnsmessage.TypeA)); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	s.Leave("db", time.Minute)
	check("db.", "Success 10.0.0.3")
	check("pair.", "Success 10.0.0.2") // somebody else is there
	must(t, s.Connect(Endpoint{Container: "db", Network: "f", Names: []string{"db"}, Addrs: addrs("10.0.0.9")}))
	check("db.", "Success 10.0.0.9")
	s.Disconnect("db", "f")
	check("db.", "NameError")
	must(t, s.Connect(Endpoint{Container: "db", Network: "f", Names: []string{"db"}, Addrs: addrs("10.0.0.9")}))
	s.Leave("db", 10*time.Millisecond)
	time.Sleep(20 * time.Millisecond)
	s.expire()
	check("db.", "NameError")
	s.Forget("lone")
	if err := s.Connect(Endpoint{Container: "x", Network: "nowhere"}); err == nil {
		t.Error("an endpoint in no network")
	}
	s.DropNetwork("f")
	check("www.", "NameError")
}

func TestLargeAnswers(t *testing.T) {
	up := newUpstream(t, "127.0.0.1")
	up.say(standard)
	_, boxes := town(t, resolvConf(t, "127.0.0.1"))
	udp, tcp := boxes["web"].dial("udp", server), boxes["web"].dial("tcp", server)
	m := ask(t, udp, "large.example.", dnsmessage.TypeTXT)
	if !m.Truncated || len(m.Answers) != 0 {
		t.Errorf("over UDP: truncated %v, %d answers", m.Truncated, len(m.Answers))
	}
	m = ask(t, udp, "large.example.", dnsmessage.TypeTXT, edns(4096))
	if !m.Truncated || len(m.Additionals) != 1 {
		t.Errorf("over UDP with EDNS: truncated %v, %d additional", m.Truncated, len(m.Additionals))
	}
	m = ask(t, tcp, "LARGE.example.", dnsmessage.TypeTXT)
	if m.Truncated || len(m.Answers) != 40 || m.Questions[0].Name.String() != "LARGE.example." {
		t.Errorf("over TCP: truncated %v, %d answers, %v", m.Truncated, len(m.Answers), m.Questions)
	}
	if n := up.count("large.example."); n != 2 { // once over UDP, once over TCP, then from memory
		t.Errorf("asked %d times", n)
	}
}

func TestRemembers(t *testing.T) {
	up := newUpstream(t, "127.0.0.1")
	up.say(standard)
	path := resolvConf(t, "127.0.0.1")
	s, boxes := town(t, path)
	var wg sync.WaitGroup
	for range 20 {
		conn := boxes["web"].dial("udp", server)
		wg.Go(func() {
			for _, name := range []string{"one.example.", "none.example.", "One.Example."} {
				if m := ask(t, conn, name, dnsmessage.TypeA, edns(1232)); m.Questions[0].Name.String() != name || len(m.Additionals) != 1 {
					t.Errorf("%s: %+v", name, m)
				}
			}
		})
	}
	wg.Wait()
	if a, b := up.count("one.example."), up.count("none.example."); a != 1 || b != 1 {
		t.Errorf("asked %d and %d times", a, b)
	}
	// Its records grow older.
	q := &query{}
	p := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("one.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	p.RecursionDesired = true
	raw, err := p.Pack()
	must(t, err)
	q.parse(raw)
	q.dnssec = false
	r, _ := s.forward.cache.get(appendKey(nil, "", q), time.Now())
	if r == nil {
		t.Fatal("not remembered")
	}
	var m dnsmessage.Message
	must(t, m.Unpack(r.appendTo(nil, q, 100*time.Second, 512)))
	if m.Answers[0].Header.TTL != 200 {
		t.Errorf("after 100 s: %d", m.Answers[0].Header.TTL)
	}
	if r, _ := s.forward.cache.get(appendKey(nil, "", q), time.Now().Add(time.Hour)); r != nil {
		t.Error("remembered after its time")
	}
	// Another resolver is another truth.
	other := newUpstream(t, "127.0.0.2")
	other.say(standard)
	ask(t, boxes["web"].dial("udp", server), "two.example.", dnsmessage.TypeA)
	writeResolv(t, path, "127.0.0.2")
	time.Sleep(lookEvery)
	ask(t, boxes["web"].dial("udp", server), "two.example.", dnsmessage.TypeA)
	if a, b := up.count("two.example."), other.count("two.example."); a != 1 || b != 1 {
		t.Errorf("asked %d and %d times", a, b)
	}
}

func TestResolversFail(t *testing.T) {
	silent := newUpstream(t, "127.0.0.1")
	up := newUpstream(t, "127.0.0.2")
	up.say(standard)
	_, boxes := town(t, resolvConf(t, "127.0.0.3", "127.0.0.1", "127.0.0.2")) // nobody, silence, one that answers
	conn := boxes["web"].dial("udp", server)
	began := time.Now()
	if got := said(ask(t, conn, "example.", dnsmessage.TypeA)); got != "Success 192.0.2.1" {
		t.Error(got)
	}
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("it took %v", d)
	}
	if silent.count("example.") == 0 {
		t.Error("the second resolver was not asked")
	}
	// A busy machine may answer so late that another one is asked as well, but not each time.
	for i := range 5 {
		name := fmt.Sprintf("again%d.example.", i)
		ask(t, conn, name, dnsmessage.TypeA)
		if silent.count(name) == 0 {
			return
		}
	}
	t.Error("the ones that failed are asked first again")
}

func TestNobodyAnswers(t *testing.T) {
	newUpstream(t, "127.0.0.1")
	_, boxes := town(t, resolvConf(t, "127.0.0.1"))
	if got := said(ask(t, boxes["web"].dial("udp", server), "example.", dnsmessage.TypeA)); got != "ServerFailure" {
		t.Error(got)
	}
}

// TestResolverRestarts has the only resolver refuse connections for a moment.
func TestResolverRestarts(t *testing.T) {
	suite.NeedNetwork(t)
	loopbackUp(t)
	_, boxes := town(t, resolvConf(t, "127.0.0.1"))
	conn := boxes["web"].dial("udp", server)
	later := make(chan *upstream)
	time.AfterFunc(300*time.Millisecond, func() {
		u := &upstream{answer: standard}
		u.udp, _ = net.ListenPacket("udp", "127.0.0.1:53")
		u.tcp, _ = net.Listen("tcp", "127.0.0.1:53")
		u.start(t)
		later <- u
	})
	if got := said(ask(t, conn, "example.", dnsmessage.TypeA)); got != "Success 192.0.2.1" {
		t.Error(got)
	}
	<-later
}

// TestOwnServers has a container's resolver run inside the container.
func TestOwnServers(t *testing.T) {
	s := open(t, resolvConf(t))
	b := newBox(t)
	u := &upstream{answer: standard}
	b.do(func() {
		u.udp, _ = net.ListenPacket("udp", "127.0.0.1:53")
		u.tcp, _ = net.Listen("tcp", "127.0.0.1:53")
	})
	u.start(t)
	s.PutNetwork(Network{ID: "i", Name: "inner", Internal: true})
	must(t, s.Connect(Endpoint{Container: "c", Network: "i", Names: []string{"c"}, Addrs: addrs("10.0.0.2")}))
	must(t, s.Serve("c", b.listen(), Client{Servers: addrs("127.0.0.1")}))
	conn := b.dial("udp", server)
	for name, want := range map[string]string{"example.": "Success 192.0.2.1", "c.": "Success 10.0.0.2"} {
		if got := said(ask(t, conn, name, dnsmessage.TypeA)); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if m := ask(t, b.dial("tcp", server), "large.example.", dnsmessage.TypeTXT); len(m.Answers) != 40 {
		t.Errorf("%d answers", len(m.Answers))
	}
}

// TestServerDies asks while there is no server: the question waits in the socket for the next one.
func TestServerDies(t *testing.T) {
	b := newBox(t)
	held := b.listen()
	defer held.Close()
	serve := func() *Server {
		s, err := Open(Config{ResolvConf: resolvConf(t)})
		must(t, err)
		s.PutNetwork(Network{ID: "n", Name: "net"})
		must(t, s.Connect(Endpoint{Container: "c", Network: "n", Names: []string{"c"}, Addrs: addrs("10.0.0.2")}))
		mine, err := held.Dup()
		must(t, err)
		must(t, s.Serve("c", mine, Client{}))
		return s
	}
	must(t, serve().Close())
	var wg sync.WaitGroup
	for _, network := range []string{"udp", "tcp", "udp"} {
		conn := b.dial(network, server)
		wg.Go(func() {
			if got := said(ask(t, conn, "c.", dnsmessage.TypeA)); got != "Success 10.0.0.2" {
				t.Errorf("%s: %q", network, got)
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	s := serve()
	wg.Wait()
	must(t, s.Close())
}

func TestBadQuestions(t *testing.T) {
	_, boxes := town(t, resolvConf(t))
	conn := boxes["web"].dial("udp", server)
	question := func(class dnsmessage.Class, kind dnsmessage.Type) []byte {
		m := dnsmessage.Message{Header: dnsmessage.Header{ID: 9}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("web."), Type: kind, Class: class}}}
		p, err := m.Pack()
		must(t, err)
		return p
	}
	good := question(dnsmessage.ClassINET, dnsmessage.TypeA)
	for name, c := range map[string]struct {
		p    []byte
		want string
	}{
		"class":          {question(dnsmessage.ClassCHAOS, dnsmessage.TypeTXT), "Refused"},
		"transfer":       {question(dnsmessage.ClassINET, dnsmessage.TypeAXFR), "Refused"},
		"cut":            {good[:len(good)-1], "FormatError"},
		"no question":    {append(append([]byte{}, good[:4]...), 0, 0, 0, 0, 0, 0, 0, 0), "FormatError"},
		"two questions":  {patched(good, 5, 2), "FormatError"},
		"update":         {patched(good, 2, 5<<3), "NotImplemented"},
		"pointer":        {patched(good, 12, 0xC0), "FormatError"},
		"extra":          {patched(good, 11, 1), "FormatError"},
		"good after all": {good, "Success 10.0.0.2"},
	} {
		if got := said(exchange(t, conn, c.p)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	m := ask(t, conn, "web.", dnsmessage.TypeA, func(b *dnsmessage.Builder) {
		_ = b.StartAdditionals()
		var h dnsmessage.ResourceHeader
		_ = h.SetEDNS0(1232, dnsmessage.RCodeSuccess, false)
		h.TTL |= 1 << 16 // version 1
		_ = b.OPTResource(h, dnsmessage.OPTResource{})
	})
	if len(m.Additionals) != 1 || m.Additionals[0].Header.ExtendedRCode(m.RCode) != rcodeVersion {
		t.Errorf("EDNS version 1: %+v", m)
	}
	// What is no question gets no answer, and does no harm.
	for _, p := range [][]byte{{}, {1}, patched(good, 2, 0x80), make([]byte, packetSize+1)} {
		_, _ = conn.Write(p)
	}
	if got := said(exchange(t, conn, good)); got == "" {
		t.Error("no answer")
	}
}

func patched(p []byte, at int, v byte) []byte {
	c := append([]byte{}, p...)
	c[at] = v
	return c
}

// TestManyFlying has a client ask more than is let through at a time: it is told, and others are not in its way.
func TestManyFlying(t *testing.T) {
	up := newUpstream(t, "127.0.0.1")
	_, boxes := town(t, resolvConf(t, "127.0.0.1"))
	conn := boxes["web"].dial("udp", server)
	must(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	for i := range maxFlyingClient + 1 {
		m := dnsmessage.Message{Header: dnsmessage.Header{ID: uint16(i)}, Questions: []dnsmessage.Question{
			{Name: dnsmessage.MustNewName(fmt.Sprintf("n%d.example.", i)), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
		}}
		p, err := m.Pack()
		must(t, err)
		_, err = conn.Write(p)
		must(t, err)
	}
	buf := make([]byte, 512)
	_, err := conn.Read(buf)
	must(t, err)
	if buf[3]&rcodeMask != rcodeFail {
		t.Errorf("one too many: %x", buf[:12])
	}
	up.say(standard)
	if got := said(ask(t, boxes["db"].dial("udp", server), "other.example.", dnsmessage.TypeA)); got != "Success 192.0.2.1" {
		t.Error(got)
	}
}
