package cli

import (
	"fmt"
	"path/filepath"

	"github.com/kistdev/kist/internal/client"
)

// client returns the connection to the daemon that all of a command's requests use.
func (a *app) client() (*client.Client, error) {
	if a.shared != nil {
		return a.shared, nil
	}
	e, err := a.endpoint()
	if err != nil {
		return nil, err
	}
	o := client.Options{Agent: Version, API: a.getenv("DOCKER_API_VERSION")}
	if !a.globals.noAutostart && a.getenv("KIST_NO_AUTOSTART") == "" {
		o.Start = &client.Starter{}
	}
	a.shared = client.New(e, o)
	return a.shared, nil
}

// endpoint chooses the daemon from flags and environment.
func (a *app) endpoint() (client.Endpoint, error) {
	g := a.globals
	if g.context != "" && g.context != "default" {
		return client.Endpoint{}, fmt.Errorf("there is no context %q: kist has only \"default\"; name the daemon with --host or KIST_HOST", g.context)
	}
	e, err := client.FindEndpoint(g.host, a.getenv)
	if err != nil {
		return e, err
	}
	verify := g.tlsVerify || a.getenv("DOCKER_TLS_VERIFY") != ""
	if e.Scheme == "tcp" && (g.tls || verify) {
		e.TLS = a.tlsFiles(verify)
	}
	return e, nil
}

func (a *app) tlsFiles(verify bool) *client.TLSFiles {
	dir := a.getenv("DOCKER_CERT_PATH")
	if dir == "" {
		dir = a.settingsDir()
	}
	or := func(flag, name string) string {
		if flag != "" {
			return flag
		}
		return filepath.Join(dir, name)
	}
	f := &client.TLSFiles{Verify: verify, Cert: or(a.globals.tlsCert, "cert.pem"), Key: or(a.globals.tlsKey, "key.pem")}
	if verify {
		f.CA = or(a.globals.tlsCA, "ca.pem")
	}
	return f
}
