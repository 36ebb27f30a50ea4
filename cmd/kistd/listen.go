package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/front"
	"github.com/kistdev/kist/internal/network"
)

// listen opens all sockets, or none.
func listen(c *config) (all []net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range all {
				_ = l.Close()
			}
		}
	}()
	for _, host := range c.Hosts {
		scheme, address, ok := strings.Cut(host, "://")
		if !ok {
			return all, badSetting("-H %s: want unix://PATH, tcp://ADDRESS:PORT or fd://", host)
		}
		var ls []net.Listener
		switch scheme {
		case "unix":
			ls, err = one(listenUnix("unix", address, c.Group))
		case "tcp":
			ls, err = one(listenTCP(address, c))
		case "fd":
			ls, err = listenPassed(c)
		default:
			err = fmt.Errorf("unknown scheme %q", scheme)
		}
		if err != nil {
			return all, listenFault(host, err)
		}
		all = append(all, ls...)
	}
	return all, nil
}

// listenFault explains a socket that cannot be opened.
func listenFault(host string, err error) error {
	if _, ok := fault.As(err); ok {
		return err
	}
	f := &fault.Error{Code: "daemon-socket", What: fmt.Sprintf("%s-H %s: %v", cannotStart, host, err), Try: "kistd -H ANOTHER", Class: errdefs.ErrUnavailable, Err: err}
	scheme, address, _ := strings.Cut(host, "://")
	switch {
	case errors.Is(err, errAnswers), errors.Is(err, unix.EADDRINUSE):
		f.Code, f.What = "daemon-socket-in-use", cannotStart+host+" is in use by another program"
		if name, pid, ok := holderOf(scheme, address); ok {
			f.What = fmt.Sprintf("%s%s is in use by %s (pid %d)", cannotStart, host, name, pid)
		}
		f.Cause, f.Try = "what listens there is no daemon of this data root", "kistd -H with another address, or stop that program"
	case scheme == "unix" && len(address) >= longestSocket:
		f.Code, f.What = "daemon-socket-path", cannotStart+"the path of its socket is too long"
		f.Cause = fmt.Sprintf("%s has %d bytes, and the kernel takes %d", address, len(address), longestSocket-1)
		f.Try = "a shorter --exec-root (KIST_EXEC_ROOT)"
	}
	return f
}

// longestSocket is what a socket's path may have with the suffix that it is made under.
const longestSocket = 108 - len(unready)

// errAnswers says that a socket is somebody's.
var errAnswers = errors.New("another daemon answers there")

// holderOf finds the process that listens.
func holderOf(scheme, address string) (name string, pid int, ok bool) {
	if scheme == "unix" {
		return network.SocketHolder(address)
	}
	at, err := netip.ParseAddrPort(strings.Replace(address, "localhost", "127.0.0.1", 1))
	if err != nil {
		return "", 0, false
	}
	return network.PortHolder(at)
}

func one(l net.Listener, err error) ([]net.Listener, error) { return []net.Listener{l}, err }

// listenFront opens the socket for whole commands, beside the one of the API that it stands for: a daemon that does not serve
// that has none.
func listenFront(c *config) (*net.UnixListener, error) {
	if c.front != nil {
		return c.front, nil
	}
	if !slices.Contains(c.Hosts, "unix://"+filepath.Join(c.ExecRoot, "kist.sock")) {
		return nil, nil
	}
	l, err := listenUnix("unixpacket", filepath.Join(c.ExecRoot, front.Socket), c.Group)
	if err != nil {
		return nil, err
	}
	return l.(*net.UnixListener), nil //nolint:forcetypeassert // what Listen returns for unixpacket
}

// listenUnix opens a socket for the group.
func listenUnix(network, path, group string) (net.Listener, error) {
	return listenAs(network, path, belongings{uid: os.Geteuid(), group: group})
}

// socketMode is for the owner and its group.
const socketMode = 0o660

// unready is behind a socket's name until mode and owner are right.
const unready = ".new"

// nameOf is the name under which a socket is found.
func nameOf(a net.Addr) string { return strings.TrimSuffix(a.String(), unready) }

// listenAs replaces the socket of a daemon that is gone; one that answers is left alone.
func listenAs(network, path string, b belongings) (net.Listener, error) {
	if conn, err := net.Dial(network, path); err == nil {
		_ = conn.Close()
		return nil, errAnswers
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// Bound under another name, so that nobody connects before mode and owner are right.
	tmp := path + unready
	_ = os.Remove(tmp)
	l, err := net.Listen(network, tmp)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) //nolint:forcetypeassert // what Listen returns for unix
	gid, err := groupID(b.group)
	if err == nil {
		err = os.Chown(tmp, b.uid, gid)
	}
	if err == nil {
		err = os.Chmod(tmp, fs.FileMode(cmp.Or(b.mode, socketMode)))
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// groupID looks up the group that may use the socket. Without one named, it is "kist" where that exists.
func groupID(group string) (int, error) {
	name := group
	if name == "" {
		name = "kist"
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		if group == "" {
			return os.Getegid(), nil
		}
		if gid, numErr := strconv.Atoi(group); numErr == nil {
			return gid, nil
		}
		return 0, err
	}
	return strconv.Atoi(g.Gid)
}

// checkDoor refuses a socket that lets anybody in from other machines, unless it was asked for in so many words, as dockerd does.
func checkDoor(address string, c *config) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	ip := net.ParseIP(host)
	if c.TLSVerify || host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	how, word := "without TLS", "--tls=false"
	if c.TLS {
		how, word = "without asking for clients' certificates", "--tlsverify=false"
	}
	if c.TLS && c.given["tlsverify"] || !c.TLS && c.given["tls"] {
		slog.Warn("whoever reaches this socket is root on this host", "socket", "tcp://"+address, "how", how)
		return nil
	}
	return &fault.Error{
		Code: "daemon-socket-open", What: cannotStart + "tcp://" + address + " " + how + " lets in whoever reaches it", Class: errdefs.ErrInvalidArgument,
		Cause: "a caller is root on this host",
		Try:   "--tlsverify with --tlscacert, --tlscert and --tlskey, a loopback address, or " + word + " if that is what you want",
	}
}

func listenTCP(address string, c *config) (net.Listener, error) {
	if err := checkDoor(address, c); err != nil {
		return nil, err
	}
	if !c.TLS && !c.TLSVerify {
		return net.Listen("tcp", address)
	}
	cert, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("the daemon's certificate: %w", err)
	}
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if c.TLSVerify {
		pem, err := os.ReadFile(c.TLSCACert)
		if err != nil {
			return nil, fmt.Errorf("certificates for clients: %w", err)
		}
		conf.ClientCAs = x509.NewCertPool()
		if !conf.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("certificates for clients: no certificate in %s", c.TLSCACert)
		}
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return tls.Listen("tcp", address, conf)
}
