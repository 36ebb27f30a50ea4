package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/kistdev/kist/internal/front"
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
			return all, fmt.Errorf("-H %s: want unix://PATH, tcp://ADDRESS:PORT or fd://", host)
		}
		var ls []net.Listener
		switch scheme {
		case "unix":
			ls, err = one(listenUnix("unix", address, c.Group))
		case "tcp":
			ls, err = one(listenTCP(address, c))
		case "fd":
			ls, err = activation.Listeners()
			if err == nil && len(ls) == 0 {
				err = errors.New("systemd has passed no socket")
			}
		default:
			err = fmt.Errorf("unknown scheme %q", scheme)
		}
		if err != nil {
			return all, fmt.Errorf("-H %s: %w", host, err)
		}
		all = append(all, ls...)
	}
	return all, nil
}

func one(l net.Listener, err error) ([]net.Listener, error) { return []net.Listener{l}, err }

// listenFront opens the socket for whole commands, beside the one of the API that it stands for: a daemon that does not serve
// that has none.
func listenFront(c *config) (*net.UnixListener, error) {
	if !slices.Contains(c.Hosts, "unix://"+filepath.Join(c.ExecRoot, "kist.sock")) {
		return nil, nil
	}
	l, err := listenUnix("unixpacket", filepath.Join(c.ExecRoot, front.Socket), c.Group)
	if err != nil {
		return nil, err
	}
	return l.(*net.UnixListener), nil //nolint:forcetypeassert // what Listen returns for unixpacket
}

// listenUnix replaces the socket of a daemon that is gone; one that answers is left alone.
func listenUnix(network, path, group string) (net.Listener, error) {
	if conn, err := net.Dial(network, path); err == nil {
		_ = conn.Close()
		return nil, errors.New("another daemon answers there")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// Bound under another name, so that nobody connects before mode and owner are right.
	tmp := path + ".new"
	_ = os.Remove(tmp)
	l, err := net.Listen(network, tmp)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) //nolint:forcetypeassert // what Listen returns for unix
	gid, err := groupID(group)
	if err == nil {
		err = os.Chown(tmp, os.Geteuid(), gid)
	}
	if err == nil {
		err = os.Chmod(tmp, 0o660)
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

func listenTCP(address string, c *config) (net.Listener, error) {
	if !c.TLS && !c.TLSVerify {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return nil, errors.New("whoever reaches this socket is root on this host: give --tlsverify with certificates, or a loopback address")
		}
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
