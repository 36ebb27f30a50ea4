package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
)

// statusError is a mirror's answer that is not the file.
type statusError struct{ code int }

func (e *statusError) Error() string {
	return fmt.Sprintf("the mirror answers %d %s", e.code, http.StatusText(e.code))
}

// Unwrap gives the class.
func (e *statusError) Unwrap() error {
	switch e.code {
	case http.StatusNotFound, http.StatusGone:
		return errdefs.ErrNotFound
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return errdefs.ErrPermissionDenied
	}
	return errdefs.ErrUnavailable
}

// again says whether another attempt may help.
func again(err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		return status.code >= 500 || status.code == http.StatusTooManyRequests || status.code == http.StatusRequestTimeout
	}
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return false
	}
	return !errdefs.IsPermissionDenied(err) && !errdefs.IsInvalidArgument(err) && !errors.Is(err, fs.ErrNotExist) &&
		!errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) && !errors.Is(err, unix.ECONNREFUSED)
}

// explain says what is wrong with a mirror that cannot be reached.
func (f *fetcher) explain(u *url.URL, err error) error {
	if err == nil {
		return nil
	}
	what := "cannot fetch " + u.Redacted()
	var dns *net.DNSError
	var status *statusError
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, errDamaged):
		return &fault.Error{
			Code: "bootstrap-mirror-damaged", What: what + ": " + err.Error(), Err: err, Class: errdefs.ErrDataLoss,
			Cause: fmt.Sprintf("after %d attempts its size or its SHA256 sum is still another one", attempts),
			Try:   "again in some minutes, if the mirror is just being updated; else another --mirror",
		}
	case errors.As(err, &status), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: %w", what, err)
	case errors.As(err, &dns):
		return unreachable(what+": no address is known for "+dns.Name, dns.Err, err)
	case f.isNetwork(err):
		return unreachable(what+": the mirror cannot be reached", text(err), err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func unreachable(what, cause string, err error) error {
	return &fault.Error{
		Code: "bootstrap-mirror-unreachable", What: what, Cause: cause, Err: err, Class: errdefs.ErrUnavailable,
		Try: "see whether this machine reaches the mirror; another one is given by --mirror, a proxy by HTTP_PROXY of the daemon or in apt's configuration (Acquire::http::Proxy)",
	}
}

func (f *fetcher) isNetwork(err error) bool {
	var op *net.OpError
	var u *url.Error
	return errors.As(err, &op) || errors.As(err, &u) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errStalled)
}

// text is the part of an error of net/http that tells something.
func text(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return err.Error()
}
