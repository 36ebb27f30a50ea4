package registry

import (
	"context"
	"net/http"
	"net/url"
	"strings"
)

// Ping says whether a registry answers and can be trusted; whether it lets anybody in is not asked. The name is a host, a URL, or a
// mirror as Options has it.
func (c *Client) Ping(ctx context.Context, name string) error {
	if _, mirror, ok := strings.Cut(name, "="); ok {
		name = mirror
	}
	host, scheme := name, ""
	if u, err := url.Parse(name); err == nil && u.Host != "" {
		host, scheme = u.Host, u.Scheme
	}
	e, err := c.endpoint(ctx, host, credential{})
	if err != nil {
		return err
	}
	defer e.close()
	e.scheme = scheme
	res, err := e.once(ctx, request{method: http.MethodGet}, "")
	if err != nil {
		return c.explainConnection(host, err)
	}
	if res.StatusCode/100 != 2 && res.StatusCode != http.StatusUnauthorized && res.StatusCode != http.StatusForbidden {
		return readResponseError(res)
	}
	drain(res.Body)
	return nil
}
