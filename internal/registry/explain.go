package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"syscall"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
)

// explain makes a fault of a failure to reach the registry, or to be let in. What it does not know stays as it is.
func (r *Repository) explain(err error) error {
	var re *ResponseError
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return err
	case isFault(err):
		return err
	case errors.As(err, &re):
		return r.explainResponse(err, re)
	}
	return r.client.explainConnection(r.registry, err)
}

func isFault(err error) bool {
	_, ok := fault.As(err)
	return ok
}

// explainConnection makes a fault of a server that could not be reached or trusted.
func (c *Client) explainConnection(registry string, err error) error {
	f := &fault.Error{What: "cannot reach registry " + registry, Class: errdefs.ErrUnavailable, Err: err}
	var (
		dns     *net.DNSError
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		f.Code, f.Cause = "registry-unknown-host", fmt.Sprintf("there is no host %q", dns.Name)
		f.What += ": its name is not known"
		f.Try = "check the spelling of the name, and the host's DNS"
	case errors.As(err, &dns):
		f.Code, f.Cause = "registry-no-dns", fmt.Sprintf("the name %q cannot be resolved: %s", dns.Name, dns.Err)
		f.What += ": no name server answers"
		f.Try = "check the host's network and DNS"
	case errors.As(err, &unknown):
		f.Code, f.Cause = "registry-unknown-ca", "x509: its certificate is signed by an unknown authority"+issuer(err)
		f.What += ": its certificate is signed by an unknown authority"
		f.Try = "put that authority's certificate into " + c.caFile(registry)
	case errors.As(err, &name):
		f.Code, f.Cause = "registry-wrong-certificate", name.Error()
		f.What += ": its certificate is for another name"
		f.Try = "use the name that is in the certificate"
	case errors.As(err, &invalid):
		f.Code, f.Cause = "registry-wrong-certificate", invalid.Error()
		f.What += ": its certificate is not valid"
		f.Try = "check this host's clock (kist doctor), and renew the certificate"
	case errors.Is(err, http.ErrSchemeMismatch):
		f.Code, f.Cause = "registry-plain-http", "it speaks plain HTTP, which is allowed only on loopback addresses"
		f.What += ": it speaks plain HTTP"
		f.Try = "start the daemon with --insecure-registry " + registry
	case errors.Is(err, syscall.ECONNREFUSED):
		f.Code, f.Cause = "registry-refused", "nothing listens there: "+err.Error()
		f.What += ": the connection is refused"
		f.Try = "check that the registry runs, and its port"
	case errors.Is(err, errStalled), isNetwork(err):
		f.Code, f.Try = "registry-unreachable", "check the network, a proxy (HTTPS_PROXY) and a firewall on the way: kist doctor"
		f.What += ": it does not answer"
	default:
		return err
	}
	return f
}

// issuer says who signed the certificate that was refused.
func issuer(err error) string {
	var cert *tls.CertificateVerificationError
	if !errors.As(err, &cert) || len(cert.UnverifiedCertificates) == 0 {
		return ""
	}
	chain := cert.UnverifiedCertificates
	return fmt.Sprintf(" (%s)", chain[len(chain)-1].Issuer)
}

// caFile is where to put the certificate of an authority that a registry needs.
func (c *Client) caFile(registry string) string {
	return filepath.Join(c.o.CertDirs[0], certDirName(registry), "ca.crt")
}

func (r *Repository) explainResponse(err error, re *ResponseError) error {
	f := &fault.Error{What: "registry " + r.registry + " refused", Class: re.Unwrap(), Err: err}
	switch re.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return r.explainDenied(f, re)
	case http.StatusTooManyRequests:
		f.Code, f.Cause = "registry-rate-limit", "too many requests: "+re.Error()
		f.What += ": too many requests"
		f.Try = "log in for a higher limit (kist login " + r.registry + "), use a mirror, or wait"
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		f.Code, f.What = "registry-unavailable", "registry "+r.registry+" is out of order"
		f.Try = "again later, or a mirror (registry-mirrors)"
	default:
		return err
	}
	return f
}

// explainDenied tells a login that is missing from one that is not good enough.
func (r *Repository) explainDenied(f *fault.Error, re *ResponseError) error {
	name := r.registry + "/" + r.name
	f.What = "access to " + name + " denied"
	login := "kist login"
	if r.registry != dockerRegistry {
		login += " " + r.registry
	}
	switch {
	case r.origin().login.empty():
		f.Code, f.Try = "registry-login-needed", login
		f.Cause = "the repository does not exist, or it is private: nobody is logged in to " + r.registry
		f.What += ": nobody is logged in"
	case re.Status == http.StatusUnauthorized:
		f.Code, f.Try = "registry-login-refused", login
		f.What += ": the credentials are not accepted"
		f.Cause = fmt.Sprintf("the credentials of %s are not accepted, or do not reach this far: %s", r.origin().login.who(), re.Error())
	default:
		f.Code, f.Try = "registry-denied", login+" as a user who has"
		f.What += ": no right to it"
		f.Cause = fmt.Sprintf("%s has no right to it: %s", r.origin().login.who(), re.Error())
	}
	return f
}

// who names the user of a credential.
func (c credential) who() string {
	if c.user == "" {
		return "the token in use"
	}
	return "user " + c.user
}
