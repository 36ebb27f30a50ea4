package dns

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func packed(t testing.TB, m dnsmessage.Message) []byte {
	t.Helper()
	p, err := m.Pack()
	must(t, err)
	return p
}

var seedQuestion = dnsmessage.Question{Name: dnsmessage.MustNewName("Web.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}

// FuzzQuestion answers any packet from the zone: what it says can be read, and says no more than asked.
func FuzzQuestion(f *testing.F) {
	f.Add(packed(f, dnsmessage.Message{Questions: []dnsmessage.Question{seedQuestion}}))
	m := dnsmessage.Message{Header: dnsmessage.Header{RecursionDesired: true}, Questions: []dnsmessage.Question{{
		Name: dnsmessage.MustNewName("2.0.0.10.in-addr.arpa."), Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET,
	}}}
	var h dnsmessage.ResourceHeader
	_ = h.SetEDNS0(4096, 0, true)
	m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
	f.Add(packed(f, m))
	z := newZone()
	z.putNetwork(Network{ID: "n", Name: "example"})
	z.connect(Endpoint{Container: "c", Network: "n", Names: []string{"web"}, Addrs: addrs("10.0.0.2", "fd00::2")})
	f.Fuzz(func(t *testing.T, p []byte) {
		q := new(query)
		rcode, ok := q.parse(p)
		if !ok {
			return
		}
		out := bare(nil, q, rcode, 0)
		if rcode == rcodeOK {
			if b, ok := z.look("c", q, nil).write(nil, q, q.size); ok {
				out = b
			}
		}
		if q.odd { // dnsmessage does not take a dot in a label
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(out); err != nil {
			t.Fatalf("%x: answer %x: %v", p, out, err)
		}
		if len(out) > q.size {
			t.Fatalf("%x: %d bytes of at most %d", p, len(out), q.size)
		}
	})
}

// FuzzResponse reads any packet as a resolver's answer: what is passed on can be read if the packet could.
func FuzzResponse(f *testing.F) {
	soa := dnsmessage.SOAResource{NS: dnsmessage.MustNewName("ns.example."), MBox: dnsmessage.MustNewName("m.example."), MinTTL: 30}
	f.Add(packed(f, dnsmessage.Message{
		Header: dnsmessage.Header{Response: true}, Questions: []dnsmessage.Question{seedQuestion},
		Answers: []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: seedQuestion.Name, Class: 1, TTL: 60}, Body: &dnsmessage.AResource{A: [4]byte{1, 2, 3, 4}},
		}},
		Authorities: []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: seedQuestion.Name, Class: 1, TTL: 60}, Body: &soa}},
	}))
	q := new(query)
	q.parse(packed(f, dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{seedQuestion}}))
	q.edns = true
	f.Fuzz(func(t *testing.T, p []byte) {
		p = bytes.Clone(p)
		sound := structure(p) == nil
		r, err := parseResponse(p, 0, q.canon(), typeA)
		if err != nil {
			return
		}
		for _, limit := range []int{plainSize, largestTCP} {
			out := r.appendTo(nil, q, 90*time.Second, limit)
			if len(out) > limit {
				t.Fatalf("%d bytes of at most %d", len(out), limit)
			}
			if err := structure(out); err != nil && sound {
				t.Fatalf("answer %x: %v", out, err)
			}
		}
	})
}

// structure says whether all records are where the header says.
func structure(p []byte) error {
	var parser dnsmessage.Parser
	if _, err := parser.Start(p); err != nil {
		return err
	}
	return errors.Join(parser.SkipAllQuestions(), parser.SkipAllAnswers(), parser.SkipAllAuthorities(), parser.SkipAllAdditionals())
}
