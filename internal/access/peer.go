// Package access writes down who called what: for each call the time, the socket, the caller's user, process and program, the
// method, the path, the status and how long it took.
//
// It is made to cost a caller nothing: whom a connection belongs to is looked up beside the call, and lines are written behind
// the answer.
package access

import (
	"context"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Peer is the other end of a connection.
type Peer struct {
	conn net.Conn
	once sync.Once
	// known is closed when the rest is filled in.
	known   chan struct{}
	remote  string // of a connection that is not local
	cred    *unix.Ucred
	program string
}

// NewPeer makes the peer of a connection. Nothing is looked up yet.
func NewPeer(c net.Conn) *Peer { return &Peer{conn: c, known: make(chan struct{})} }

type peerKey struct{}

// WithPeer is for http.Server.ConnContext.
func WithPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, NewPeer(c))
}

type socketKey struct{}

// WithSocket is for http.Server.BaseContext: the name of the socket that calls come by.
func WithSocket(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, socketKey{}, name)
}

func peerOf(ctx context.Context) *Peer {
	p, _ := ctx.Value(peerKey{}).(*Peer)
	return p
}

// identify begins to look up who it is, once. It must begin while the peer waits for something: a process that is gone has no name.
func (p *Peer) identify() {
	p.once.Do(func() {
		c, ok := p.conn.(*net.UnixConn)
		if !ok {
			p.remote = p.conn.RemoteAddr().String()
			close(p.known)
			return
		}
		p.cred = credentials(c)
		go func() {
			defer close(p.known)
			if p.cred == nil {
				return
			}
			if name, err := os.ReadFile("/proc/" + strconv.Itoa(int(p.cred.Pid)) + "/comm"); err == nil {
				p.program = strings.TrimSpace(string(name))
			}
		}()
	})
}

// credentials are those that the kernel took down when the peer connected; nil if the connection is closed.
func credentials(c *net.UnixConn) *unix.Ucred {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	var cred *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if controlErr != nil || err != nil {
		return nil
	}
	return cred
}

// Caller says who makes the call that ctx belongs to, in words: "kist (pid 812, user 0)". It is empty where that is not known, as
// without a log.
func Caller(ctx context.Context) string {
	p := peerOf(ctx)
	if p == nil {
		return ""
	}
	p.identify()
	<-p.known
	switch {
	case p.remote != "":
		return p.remote
	case p.cred == nil:
		return ""
	}
	name := p.program
	if name == "" {
		name = "a program that is gone"
	}
	return name + " (pid " + strconv.Itoa(int(p.cred.Pid)) + ", user " + strconv.Itoa(int(p.cred.Uid)) + ")"
}
