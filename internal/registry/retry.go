package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// longestPause bounds both the growing pause and what a server may ask for.
const longestPause = time.Minute

// again says whether another attempt may mend err.
func again(err error) bool {
	var re *ResponseError
	if errors.As(err, &re) {
		return slices.Contains([]int{
			http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
			http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
		}, re.Status)
	}
	var (
		local *localError
		dns   *net.DNSError
		cert  *tls.CertificateVerificationError
		host  x509.HostnameError
	)
	switch {
	case errors.Is(err, errStalled):
		return true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded) && !isTimeout(err),
		errors.As(err, &local), errors.As(err, &cert), errors.As(err, &host),
		errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, http.ErrSchemeMismatch):
		return false
	case errors.As(err, &dns):
		return dns.IsTemporary && !dns.IsNotFound
	}
	return isNetwork(err)
}

// isNetwork tells failures of the connection from answers that were understood and refused.
func isNetwork(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) || isBroken(err)
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// pause waits before attempt number n (from 1), as long as the server asks or twice as long as before. It returns false
// when ctx has ended.
func (c *Client) pause(ctx context.Context, n int, err error) bool {
	wait := c.o.Patience << min(n-1, 10)
	wait += time.Duration(rand.Int64N(int64(wait)/4 + 1)) //nolint:gosec // only spreads the load
	var re *ResponseError
	if errors.As(err, &re) && re.RetryAfter > wait {
		wait = re.RetryAfter
	}
	t := time.NewTimer(min(wait, longestPause))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// retryAfter reads the header in both its shapes.
func retryAfter(h http.Header) time.Duration {
	raw := h.Get("Retry-After")
	if n, err := strconv.Atoi(raw); err == nil && n > 0 {
		return time.Duration(min(n, 3600)) * time.Second
	}
	if at, err := http.ParseTime(raw); err == nil {
		return time.Until(at)
	}
	return 0
}
