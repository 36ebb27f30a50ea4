package client

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
)

// Endpoint is where a daemon listens.
type Endpoint struct {
	// Scheme is unix, tcp or ssh.
	Scheme string
	// Addr is a path, host:port, or [user@]host[:port].
	Addr string
	// Own is set when the socket is kist's own and no one named another: its daemon is started when it does not run.
	Own bool
	// From says who named it, for messages: "--host", "DOCKER_HOST", or empty.
	From string
	// Roots are those of the daemon that listens on an own socket.
	Roots Roots
	// Files for TLS, with tcp.
	TLS *TLSFiles
}

// TLSFiles name what a TLS connection needs. Empty names are left out.
type TLSFiles struct {
	CA, Cert, Key string
	// Verify checks the daemon's certificate.
	Verify bool
}

// Roots are the two directories of a daemon of kist's own.
type Roots struct {
	Data, Exec string
	// Set tells that the environment named one of them.
	Set bool
}

// String returns the endpoint as -H takes it.
func (e Endpoint) String() string { return e.Scheme + "://" + e.Addr }

// FindEndpoint chooses the daemon: the flag, KIST_HOST, DOCKER_HOST, or kist's own socket.
func FindEndpoint(flag string, getenv func(string) string) (Endpoint, error) {
	roots := FindRoots(getenv)
	host, from := flag, "--host"
	if host == "" {
		host, from = getenv("KIST_HOST"), "KIST_HOST"
	}
	if host == "" {
		host, from = getenv("DOCKER_HOST"), "DOCKER_HOST"
	}
	if host == "" {
		return Endpoint{Scheme: "unix", Addr: filepath.Join(roots.Exec, "kist.sock"), Own: true, Roots: roots}, nil
	}
	e, err := ParseHost(host)
	if err != nil {
		return Endpoint{}, &fault.Error{
			Code: "bad-host", What: from + ": " + err.Error(), Try: "unix:///path, tcp://name:port or ssh://user@name", Class: errdefs.ErrInvalidArgument,
		}
	}
	e.From = from
	return e, nil
}

// FindRoots returns the data and exec roots of the daemon that this user starts.
func FindRoots(getenv func(string) string) Roots {
	r := Roots{Data: getenv("KIST_DATA_ROOT"), Exec: getenv("KIST_EXEC_ROOT")}
	r.Set = r.Data != "" || r.Exec != ""
	root := os.Geteuid() == 0
	if r.Data == "" {
		switch home := getenv("XDG_DATA_HOME"); {
		case root:
			r.Data = "/var/lib/kist"
		case home != "":
			r.Data = filepath.Join(home, "kist")
		default:
			r.Data = filepath.Join(getenv("HOME"), ".local/share/kist")
		}
	}
	if r.Exec == "" {
		switch run := getenv("XDG_RUNTIME_DIR"); {
		case root:
			r.Exec = "/run/kist"
		case run != "":
			r.Exec = filepath.Join(run, "kist")
		default:
			r.Exec = fmt.Sprintf("/tmp/kist-%d", os.Geteuid())
		}
	}
	return r
}

// ParseHost reads an address as docker's -H takes it.
func ParseHost(s string) (Endpoint, error) {
	scheme, addr, ok := strings.Cut(strings.TrimSpace(s), "://")
	if !ok {
		scheme, addr = "tcp", s
	}
	switch scheme {
	case "unix":
		if addr == "" {
			addr = "/var/run/docker.sock"
		}
		if !strings.HasPrefix(addr, "/") {
			return Endpoint{}, fmt.Errorf("%q is not a host: a unix socket needs an absolute path", s)
		}
		return Endpoint{Scheme: "unix", Addr: addr}, nil
	case "tcp", "http", "https":
		return parseTCP(s, addr)
	case "ssh":
		u, err := url.Parse(s)
		if err != nil || u.Host == "" || strings.HasPrefix(u.Hostname(), "-") {
			return Endpoint{}, fmt.Errorf("%q is not a host: use ssh://[user@]name[:port]", s)
		}
		if _, set := u.User.Password(); set {
			return Endpoint{}, fmt.Errorf("%q is not a host: a password in an ssh address is not supported", u.Redacted())
		}
		return Endpoint{Scheme: "ssh", Addr: strings.TrimPrefix(s, "ssh://")}, nil
	}
	return Endpoint{}, fmt.Errorf("%q is not a host: use unix:///path, tcp://name:port or ssh://user@name", s)
}

func parseTCP(whole, addr string) (Endpoint, error) {
	addr = strings.TrimSuffix(addr, "/")
	if addr == "" {
		addr = "localhost:2375"
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		addr = net.JoinHostPort(strings.Trim(addr, "[]"), "2375")
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || strings.ContainsAny(addr, "/ ") {
		return Endpoint{}, fmt.Errorf("%q is not a host: use tcp://name:port", whole)
	}
	if host == "" {
		host = "localhost"
	}
	return Endpoint{Scheme: "tcp", Addr: net.JoinHostPort(host, port)}, nil
}
