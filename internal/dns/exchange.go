package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// port of the protocol.
const port = 53

// Waiting. Clients usually give up after five seconds, and ask again.
const (
	patience    = 4500 * time.Millisecond // for all of it
	resendAfter = 1200 * time.Millisecond // a packet may be lost
	hedgeAfter  = 800 * time.Millisecond  // then the next resolver is asked too
	retryAfter  = 200 * time.Millisecond  // when all have refused at once: they may be starting
)

// dialer opens connections where the asked resolvers are reached from: the host, or a container's network namespace.
type dialer interface {
	dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error)
}

// hostDialer dials from the network namespace of this process.
type hostDialer struct{}

func (hostDialer) dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, to.String())
}

// asked is a question on its way to resolvers.
type asked struct {
	canon  []byte
	kind   uint16
	flags  uint16 // RD and CD of the client
	dnssec bool
}

// packet writes the question with an id, with or without EDNS.
func (a *asked) packet(id uint16, edns bool) []byte {
	b := make([]byte, 0, headerSize+len(a.canon)+4+optSize)
	b = binary.BigEndian.AppendUint16(b, id)
	flags := a.flags & (flagRD | flagCD)
	if edns {
		flags |= flagAD
	}
	b = binary.BigEndian.AppendUint16(b, flags)
	b = append(b, 0, 1, 0, 0, 0, 0, 0, 0)
	b = append(b, a.canon...)
	b = binary.BigEndian.AppendUint16(b, a.kind)
	b = binary.BigEndian.AppendUint16(b, classIN)
	if !edns {
		return b
	}
	b[11] = 1
	return appendOPT(b, rcodeOK, a.dnssec)
}

// errUnhelpful is a resolver's refusal; another one may do better.
var errUnhelpful = errors.New("the resolver does not answer this")

// ask asks one resolver, over TCP too when the answer is too large for a packet, and without EDNS when it does not know
// that. An unhelpful response comes with an error: it is the answer if nobody has a better one.
func (a *asked) ask(ctx context.Context, d dialer, to netip.AddrPort) (*response, error) {
	r, err := a.exchange(ctx, d, "udp", to, true)
	if err == nil && (r.rcode() == rcodeForm || r.rcode() == rcodeImp) {
		r, err = a.exchange(ctx, d, "udp", to, false)
	}
	if err == nil && r.flags()&flagTC != 0 {
		r, err = a.exchange(ctx, d, "tcp", to, true)
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", to, err)
	}
	switch r.rcode() {
	case rcodeOK, rcodeNone:
		return r, nil
	}
	return r, errUnhelpful
}

func (a *asked) exchange(ctx context.Context, d dialer, network string, to netip.AddrPort, edns bool) (*response, error) {
	conn, err := d.dial(ctx, network, to)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	id := uint16(rand.Uint32())
	p := a.packet(id, edns)
	if network == "tcp" {
		return a.overTCP(conn, p, id)
	}
	return a.overUDP(ctx, conn, p, id)
}

// overUDP sends the question until it is answered. What is no answer to it is not listened to.
func (a *asked) overUDP(ctx context.Context, conn net.Conn, p []byte, id uint16) (*response, error) {
	buf := make([]byte, largestUDP)
	for {
		if _, err := conn.Write(p); err != nil {
			return nil, err
		}
		if err := conn.SetReadDeadline(time.Now().Add(resendAfter)); err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil { // its deadline was overwritten just now
			return nil, err
		}
		for {
			n, err := conn.Read(buf)
			if err != nil {
				var timeout net.Error
				if ctx.Err() == nil && errors.As(err, &timeout) && timeout.Timeout() {
					break
				}
				return nil, err
			}
			if r, err := parseResponse(append([]byte(nil), buf[:n]...), id, a.canon, a.kind); !errors.Is(err, errOtherReply) {
				return r, err
			}
		}
	}
}

func (a *asked) overTCP(conn net.Conn, p []byte, id uint16) (*response, error) {
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	buf := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, buf); err != nil {
		return nil, err
	}
	return parseResponse(buf, id, a.canon, a.kind)
}

// askAll asks the resolvers in order, the next one as soon as one fails or takes long, and returns the first good answer.
// When none answers and one refused connections they are asked again: whoever restarts is back soon.
func (a *asked) askAll(ctx context.Context, d dialer, servers []netip.AddrPort, h *health) (*response, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var last *response
	for {
		r, poor, err := a.round(ctx, d, h.order(servers), h)
		if r != nil {
			return r, nil
		}
		if poor != nil {
			last = poor
		}
		if last != nil || len(servers) == 0 || !errors.Is(err, unix.ECONNREFUSED) {
			return last, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(retryAfter):
		}
	}
}

// round asks each resolver once. poor is an answer that says only that there is none.
func (a *asked) round(ctx context.Context, d dialer, servers []netip.AddrPort, h *health) (good, poor *response, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		r   *response
		err error
	}
	outcomes := make(chan outcome, len(servers))
	hedge := time.NewTimer(0)
	defer hedge.Stop()
	next, waiting := 0, 0
	for next < len(servers) || waiting > 0 {
		select {
		case <-hedge.C:
			if next == len(servers) {
				continue
			}
			to := servers[next]
			next++
			waiting++
			hedge.Reset(hedgeAfter)
			go func() {
				began := time.Now()
				r, err := a.ask(ctx, d, to)
				switch {
				case r != nil:
					h.note(to, nil)
				case !errors.Is(ctx.Err(), context.Canceled), time.Since(began) >= hedgeAfter:
					h.note(to, err) // and not one that another was just faster than
				}
				outcomes <- outcome{r, err}
			}()
		case o := <-outcomes:
			waiting--
			if o.err == nil {
				return o.r, nil, nil
			}
			if o.r != nil {
				poor = o.r
			}
			err = errors.Join(err, o.err)
			hedge.Reset(0)
		}
	}
	return nil, poor, err
}
