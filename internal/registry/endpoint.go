package registry

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"
)

// endpoint is one server that has a registry's repositories: a mirror or the registry itself.
type endpoint struct {
	host   string // and port, if the name had one
	prefix string // stands between /v2/ and the repository's name
	mirror bool
	// insecure allows plain HTTP and unknown issuers.
	insecure bool
	http     *http.Client
	agent    string
	login    credential

	mu     sync.Mutex // guards what follows
	scheme string     // empty until the server has answered
	down   bool       // a mirror that could not be reached
	auth   challenge
	tokens map[string]token // by scope
}

// endpoints lists where to read a registry's repositories, the registry itself last.
func (c *Client) endpoints(ctx context.Context, registry string, login credential) ([]*endpoint, error) {
	var list []*endpoint
	for _, u := range c.mirrors[registry] {
		stored, err := c.storedCredential(ctx, u.Host)
		if err != nil {
			return nil, err
		}
		e, err := c.endpoint(ctx, u.Host, stored)
		if err != nil {
			return nil, err
		}
		e.mirror = true
		e.scheme = u.Scheme
		e.prefix = strings.Trim(strings.TrimPrefix(strings.Trim(u.Path, "/"), "v2"), "/")
		list = append(list, e)
	}
	host := registry
	if registry == dockerRegistry {
		host = dockerHost
	}
	e, err := c.endpoint(ctx, host, login)
	if err != nil {
		return nil, err
	}
	return append(list, e), nil
}

func (c *Client) endpoint(ctx context.Context, host string, login credential) (*endpoint, error) {
	insecure := c.insecure(ctx, host)
	config, err := c.tlsConfig(host, insecure)
	if err != nil {
		return nil, err
	}
	return &endpoint{
		host: host, insecure: insecure, agent: c.o.UserAgent, login: login,
		http:   &http.Client{Transport: transport(config), CheckRedirect: dropAuthorization},
		tokens: map[string]token{},
	}, nil
}

// transport speaks HTTP/1.1 only, so that layers which are fetched at once come over connections of their own.
func transport(config *tls.Config) *http.Transport {
	dialer := &net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: 2 * time.Minute,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConnsPerHost:   8,
		DisableCompression:    true, // Blobs are taken as they are stored.
		TLSNextProto:          map[string]func(string, *tls.Conn) http.RoundTripper{},
	}
}

// dropAuthorization keeps credentials from following a redirect to another server: net/http itself would hand them to
// another port of the same host.
func dropAuthorization(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return fmt.Errorf("stopped after %d redirects", len(via))
	}
	if req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme {
		req.Header.Del("Authorization")
	}
	return nil
}

// insecure says whether plain HTTP is allowed: on loopback addresses, for hosts that were named, and in networks that were.
func (c *Client) insecure(ctx context.Context, host string) bool {
	host = strings.ToLower(host)
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	if name == "localhost" || c.insecureHosts[host] || c.insecureHosts[name] {
		return true
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		return c.insecureAddr(addr)
	}
	if name == dockerHost {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return false // The connection will say what is wrong with the name, or a proxy knows it.
	}
	for _, a := range addrs {
		if c.insecureAddr(a) {
			return true
		}
	}
	return false
}

func (c *Client) insecureAddr(addr netip.Addr) bool {
	addr = addr.Unmap()
	if addr.IsLoopback() {
		return true
	}
	for _, p := range c.insecureNets {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// url is the address of something below /v2/, or of a path that begins with a slash.
func (e *endpoint) url(scheme, path string) string {
	if strings.HasPrefix(path, "/") {
		return (&url.URL{Scheme: scheme, Host: e.host}).String() + path
	}
	p := "/v2/"
	if e.prefix != "" && path != "" {
		p += e.prefix + "/"
	}
	return (&url.URL{Scheme: scheme, Host: e.host}).String() + p + path
}

func (e *endpoint) close() { e.http.CloseIdleConnections() }
