package registry

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// Options for New. The zero value is a client without mirrors, for secure registries and loopback addresses.
type Options struct {
	// Insecure are hosts ("host", "host:port") and networks ("10.0.0.0/8") that may speak plain HTTP or have certificates
	// of unknown issuers. Loopback addresses always may.
	Insecure []string
	// Mirrors are "registry=url", or a URL alone for docker.io.
	Mirrors []string
	// CertDirs hold a directory per registry host with *.crt (CAs), *.cert and *.key (client certificates).
	CertDirs []string
	// UserAgent names the client.
	UserAgent string
	// DockerConfig is docker's config.json with the credentials to use when a request brings none; empty means that of
	// the user the process runs as.
	DockerConfig string
	// Patience is the pause before the first further attempt; it doubles each time. Zero means 200 ms.
	Patience time.Duration
	// Stall is how long a download may deliver nothing before it is taken up again. Zero means a minute.
	Stall time.Duration
}

// Docker's names for its own registry.
const (
	dockerRegistry = "docker.io"
	dockerHost     = "registry-1.docker.io"
	dockerAuthKey  = "https://index.docker.io/v1/"
)

// defaultCertDir is where docker looks for certificates.
const defaultCertDir = "/etc/docker/certs.d"

// attempts bounds how often a request is tried in a row without any progress.
const attempts = 6

// Client knows how to reach registries. It is safe for concurrent use and holds no connections.
type Client struct {
	o             Options
	insecureHosts map[string]bool
	insecureNets  []netip.Prefix
	mirrors       map[string][]*url.URL
}

// New checks the options.
func New(o Options) (*Client, error) {
	if o.Patience == 0 {
		o.Patience = 200 * time.Millisecond
	}
	if o.Stall == 0 {
		o.Stall = time.Minute
	}
	if len(o.CertDirs) == 0 {
		o.CertDirs = []string{defaultCertDir}
	}
	if o.UserAgent == "" {
		o.UserAgent = "kist"
	}
	c := &Client{o: o, insecureHosts: map[string]bool{}, mirrors: map[string][]*url.URL{}}
	for _, raw := range o.Insecure {
		if err := c.addInsecure(raw); err != nil {
			return nil, err
		}
	}
	for _, raw := range o.Mirrors {
		if err := c.addMirror(raw); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Client) addInsecure(raw string) error {
	if strings.Contains(raw, "/") && !strings.Contains(raw, "://") {
		p, err := netip.ParsePrefix(raw)
		if err != nil {
			return fmt.Errorf("insecure registry %q: %w: %w", raw, err, errdefs.ErrInvalidArgument)
		}
		c.insecureNets = append(c.insecureNets, p.Masked())
		return nil
	}
	if _, rest, ok := strings.Cut(raw, "://"); ok {
		raw = strings.TrimSuffix(rest, "/")
	}
	if raw == "" || strings.Contains(raw, "/") {
		return fmt.Errorf("insecure registry %q: want a host or a network: %w", raw, errdefs.ErrInvalidArgument)
	}
	c.insecureHosts[strings.ToLower(raw)] = true
	return nil
}

// addMirror reads "registry=url" or "url". A query of its own may hold "=", but a registry's name holds no "/".
func (c *Client) addMirror(raw string) error {
	registry, address := dockerRegistry, raw
	if name, rest, ok := strings.Cut(raw, "="); ok && !strings.Contains(name, "/") {
		registry, address = strings.ToLower(name), rest
	}
	u, err := url.Parse(address)
	if err == nil && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "") {
		err = fmt.Errorf("want http:// or https://, a host and no query")
	}
	if err != nil {
		return fmt.Errorf("registry mirror %q: %w: %w", raw, err, errdefs.ErrInvalidArgument)
	}
	if registry == "index.docker.io" || registry == dockerHost {
		registry = dockerRegistry
	}
	c.mirrors[registry] = append(c.mirrors[registry], u)
	return nil
}
