package client

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// transport is a connection whose sending side can be closed alone.
type transport interface {
	io.ReadWriteCloser
	CloseWrite() error
}

const dialTimeout = 30 * time.Second

// dial makes a connection to the endpoint as it is; nothing is started.
func (e Endpoint) dial() (transport, error) {
	switch e.Scheme {
	case "unix":
		return net.DialUnix("unix", nil, &net.UnixAddr{Name: e.Addr, Net: "unix"})
	case "ssh":
		return dialSSH(e.Addr)
	}
	d := net.Dialer{Timeout: dialTimeout}
	c, err := d.Dial("tcp", e.Addr)
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil, fmt.Errorf("connect to %s: %T is no TCP connection", e.Addr, c)
	}
	if e.TLS == nil {
		return tcp, nil
	}
	t, err := e.TLS.wrap(tcp, e.Addr)
	if err != nil {
		tcp.Close()
		return nil, err
	}
	return t, nil
}

// wrap speaks TLS on a connection.
func (f *TLSFiles) wrap(c net.Conn, addr string) (*tls.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, InsecureSkipVerify: !f.Verify}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("read the certificate authority: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", f.CA)
		}
	}
	if f.Cert != "" {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fmt.Errorf("read the client's certificate: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	t := tls.Client(c, conf)
	if err := c.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return nil, err
	}
	if err := t.Handshake(); err != nil {
		return nil, fmt.Errorf("speak TLS with %s: %w", addr, err)
	}
	return t, c.SetDeadline(time.Time{})
}
