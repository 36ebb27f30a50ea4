package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// clientID names this program to authorization servers.
const clientID = "kist"

// token is an access token of an authorization server.
type token struct {
	value   string
	expires time.Time
}

// tokenResponse is an authorization server's answer.
type tokenResponse struct {
	Token        string `json:"token"`
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	ExpiresIn    int    `json:"expires_in"`
}

// authorization is the header to send, empty if the server has not asked for one.
func (e *endpoint) authorization(ctx context.Context, scopes []string) (string, error) {
	e.mu.Lock()
	auth := e.auth
	key := strings.Join(scopes, " ")
	have, ok := e.tokens[key]
	e.mu.Unlock()
	switch {
	case auth.scheme == "basic" && e.login.user != "":
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(e.login.user+":"+e.login.password)), nil
	case auth.scheme != "bearer":
		return "", nil
	case e.login.access != "":
		return "Bearer " + e.login.access, nil
	case ok && time.Now().Before(have.expires):
		return "Bearer " + have.value, nil
	}
	r, err := e.fetchToken(ctx, auth, scopes, false)
	if err != nil {
		return "", err
	}
	t := token{value: r.Token, expires: time.Now().Add(lifetime(r.ExpiresIn))}
	e.mu.Lock()
	e.tokens[key] = t
	e.mu.Unlock()
	return "Bearer " + t.value, nil
}

// lifetime is how long a token can be used, with a margin for the request to arrive.
func lifetime(seconds int) time.Duration {
	if seconds < 60 {
		seconds = 60 // what the token specification says of servers that do not tell
	}
	return time.Duration(min(seconds, 24*3600))*time.Second - 10*time.Second
}

// fetchToken asks the authorization server for an access token, and with offline for a refresh token too.
func (e *endpoint) fetchToken(ctx context.Context, auth challenge, scopes []string, offline bool) (*tokenResponse, error) {
	req, err := e.tokenRequest(ctx, auth, scopes, offline)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", e.agent)
	res, err := e.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch token: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch token: %w", readResponseError(res))
	}
	r := new(tokenResponse)
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(r); err != nil {
		return nil, fmt.Errorf("fetch token from %s: %w: %w", req.URL.Host, err, errdefs.ErrUnavailable)
	}
	if r.Token == "" {
		r.Token = r.AccessToken
	}
	if r.Token == "" {
		return nil, fmt.Errorf("fetch token: %s gave none: %w", req.URL.Host, errdefs.ErrUnavailable)
	}
	return r, nil
}

func (e *endpoint) tokenRequest(ctx context.Context, auth challenge, scopes []string, offline bool) (*http.Request, error) {
	realm, err := e.realm(auth)
	if err != nil {
		return nil, err
	}
	service := auth.params["service"]
	scopes = slices.DeleteFunc(slices.Clone(scopes), func(s string) bool { return s == "" })
	if e.login.refresh != "" {
		form := url.Values{
			"grant_type": {"refresh_token"}, "refresh_token": {e.login.refresh},
			"service": {service}, "client_id": {clientID}, "scope": {strings.Join(scopes, " ")},
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(form.Encode()))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return req, nil
	}
	q := realm.Query()
	if service != "" {
		q.Set("service", service)
	}
	for _, s := range scopes {
		q.Add("scope", s)
	}
	if offline {
		q.Set("offline_token", "true")
		q.Set("client_id", clientID)
	}
	if e.login.user != "" {
		q.Set("account", e.login.user)
	}
	realm.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), nil)
	if err != nil {
		return nil, err
	}
	if e.login.user != "" {
		req.SetBasicAuth(e.login.user, e.login.password)
	}
	return req, nil
}

// realm is the authorization server's address. A server that is reached securely may not send credentials to one that is not.
func (e *endpoint) realm(auth challenge) (*url.URL, error) {
	u, err := url.Parse(auth.params["realm"])
	if err == nil && (u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		err = errors.New("want http:// or https:// and a host")
	}
	if err == nil && u.Scheme == "http" && !e.insecure && !e.login.empty() {
		err = errors.New("plain HTTP for credentials of a secure registry")
	}
	if err != nil {
		return nil, fmt.Errorf("token realm %q of %s: %w: %w", auth.params["realm"], e.host, err, errdefs.ErrUnauthenticated)
	}
	return u, nil
}

// challenged takes note of what the server wants. It says whether another attempt can succeed.
func (e *endpoint) challenged(res *http.Response, sent string, scopes []string) bool {
	auth, ok := parseChallenge(res.Header)
	if !ok {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.auth = auth
	delete(e.tokens, strings.Join(scopes, " "))
	switch auth.scheme {
	case "basic":
		return e.login.user != "" && !strings.HasPrefix(sent, "Basic ")
	default:
		return e.login.access == "" || sent == ""
	}
}
