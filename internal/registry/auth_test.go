package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/fault"
)

// guarded is a registry behind a token server: user u, password p, identity token "refresh".
func guarded(t *testing.T) (host string) {
	host = serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			user, password, _ := r.BasicAuth()
			_ = r.ParseForm()
			switch {
			case user == "u" && password == "p", r.Method == "POST" && r.Form.Get("refresh_token") == "refresh":
				answer := map[string]any{"token": "access:" + strings.Join(r.Form["scope"], " ")}
				if r.Form.Get("offline_token") == "true" {
					answer["refresh_token"] = "refresh"
				}
				json.NewEncoder(w).Encode(answer)
			case user == "" && r.Method == "GET":
				json.NewEncoder(w).Encode(map[string]any{"access_token": "nobody"})
			default:
				w.WriteHeader(401)
			}
			return
		}
		auth := r.Header.Get("Authorization")
		if strings.HasPrefix(auth, "Bearer access:") || auth == "Bearer given" {
			fmt.Fprint(w, `{"tags":["ok"]}`)
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+host+`/token",service="s, with \"quotes\"",scope="x"`)
		w.WriteHeader(401)
		fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
	})
	return host
}

func TestTokens(t *testing.T) {
	host := guarded(t)
	config := filepath.Join(t.TempDir(), "config.json")
	stored := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte("u:p")))
	if err := os.WriteFile(config, []byte(stored), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		auth   *registry.AuthConfig
		config string
		code   string
	}{
		{name: "password", auth: &registry.AuthConfig{Username: "u", Password: "p"}},
		{name: "auth field", auth: &registry.AuthConfig{Auth: base64.StdEncoding.EncodeToString([]byte("u:p"))}},
		{name: "identity token", auth: &registry.AuthConfig{IdentityToken: "refresh"}},
		{name: "registry token", auth: &registry.AuthConfig{RegistryToken: "given"}},
		{name: "stored", config: config},
		{name: "wrong password", auth: &registry.AuthConfig{Username: "u", Password: "x"}, code: "registry-login-refused"},
		{name: "nobody", code: "registry-login-needed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := repository(t, client(t, Options{DockerConfig: tc.config}), host+"/app", tc.auth)
			tags, err := r.Tags(context.Background())
			if tc.code == "" {
				if err != nil || !slices.Equal(tags, []string{"ok"}) {
					t.Errorf("%v, %v", tags, err)
				}
				return
			}
			if f, ok := fault.As(err); !ok || f.Code != tc.code || !errdefs.IsUnauthorized(err) {
				t.Errorf("%v, want %s", err, tc.code)
			}
		})
	}
}

func TestLogin(t *testing.T) {
	host := guarded(t)
	c := client(t, Options{})
	status, token, err := c.Login(context.Background(), registry.AuthConfig{ServerAddress: "http://" + host + "/v1/", Username: "u", Password: "p"})
	if err != nil || status != "Login Succeeded" || token != "refresh" {
		t.Errorf("%q %q %v", status, token, err)
	}
	_, _, err = c.Login(context.Background(), registry.AuthConfig{ServerAddress: host, Username: "u", Password: "wrong"})
	if !errdefs.IsUnauthorized(err) {
		t.Errorf("wrong password: %v", err)
	}
	basic := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "u" || password != "p" {
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			w.WriteHeader(401)
		}
	})
	if _, _, err := c.Login(context.Background(), registry.AuthConfig{ServerAddress: basic, Username: "u", Password: "p"}); err != nil {
		t.Errorf("basic: %v", err)
	}
	if _, _, err := c.Login(context.Background(), registry.AuthConfig{ServerAddress: basic, Username: "u"}); !errdefs.IsUnauthorized(err) {
		t.Errorf("basic, wrong: %v", err)
	}
}

func TestMirrors(t *testing.T) {
	var asked atomic.Int64
	mirror := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get("Authorization") != "" {
			t.Error("the mirror was given the registry's credentials")
		}
		if strings.HasSuffix(r.URL.Path, "/v2/sub/app/blobs/"+digest.FromBytes(someBytes).String()) {
			w.Write(someBytes)
			return
		}
		w.WriteHeader(404)
	})
	other := []byte("only the registry has this")
	origin := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if user, _, _ := r.BasicAuth(); user != "u" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(401)
			return
		}
		if strings.HasSuffix(r.URL.Path, digest.FromBytes(other).String()) {
			w.Write(other)
			return
		}
		w.WriteHeader(404)
	})
	dead := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	c := client(t, Options{Mirrors: []string{origin + "=http://" + dead, origin + "=http://" + mirror + "/sub"}})
	r := repository(t, c, origin+"/app", &registry.AuthConfig{Username: "u", Password: "p"})
	for _, raw := range [][]byte{someBytes, other} {
		got, err := r.Blob(context.Background(), blob(raw), 1<<20)
		if err != nil || !bytes.Equal(got, raw) {
			t.Errorf("%d bytes: %v", len(raw), err)
		}
	}
	if asked.Load() != 2 {
		t.Errorf("the mirror was asked %d times", asked.Load())
	}
}

func TestCredentialsStayHome(t *testing.T) {
	elsewhere := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("another server was given the credentials")
		}
		w.Write(someBytes)
	})
	host := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if user, _, _ := r.BasicAuth(); user != "u" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(401)
			return
		}
		http.Redirect(w, r, "http://"+elsewhere+"/blob", http.StatusTemporaryRedirect)
	})
	r := repository(t, client(t, Options{}), host+"/app", &registry.AuthConfig{Username: "u", Password: "p"})
	if _, err := r.Blob(context.Background(), blob(someBytes), 1<<20); err != nil {
		t.Error(err)
	}
}

func TestCertificates(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"tags":["1"]}`)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "https://")
	dir := t.TempDir()
	c := client(t, Options{CertDirs: []string{dir}})
	ask := func() error {
		r := repository(t, c, host+"/app", nil)
		config, err := c.tlsConfig(host, false) // as for a host that is not on loopback
		if err != nil {
			return err
		}
		r.origin().insecure = false
		r.origin().http.Transport.(*http.Transport).TLSClientConfig = config
		_, err = r.Tags(context.Background())
		return err
	}
	err := ask()
	want := filepath.Join(dir, host, "ca.crt")
	if f, ok := fault.As(err); !ok || f.Code != "registry-unknown-ca" || !strings.Contains(f.Try, want) || !strings.Contains(f.Cause, "O=Acme Co") {
		t.Fatalf("unknown issuer: %v", err)
	}
	if err := os.MkdirAll(filepath.Dir(want), 0o700); err != nil {
		t.Fatal(err)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(want, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ask(); err != nil {
		t.Errorf("with the CA's file: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, host, "me.cert"), ca, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.tlsConfig(host, false); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a client certificate without a key: %v", err)
	}
	// On loopback no CA is needed.
	if _, err := repository(t, client(t, Options{}), host+"/app", nil).Tags(context.Background()); err != nil {
		t.Errorf("loopback: %v", err)
	}
}

func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer realm="https://a/t",service="s"`)
	f.Add(`Basic realm=x, Bearer realm="y\"z" , scope=a`)
	f.Add(`Negotiate, NTLM abc==, Basic`)
	f.Fuzz(func(t *testing.T, s string) {
		c, ok := parseChallenge(http.Header{"Www-Authenticate": {s}})
		if ok && c.scheme != "basic" && c.scheme != "bearer" {
			t.Errorf("%q: %+v", s, c)
		}
	})
}

func TestChallenge(t *testing.T) {
	c, ok := parseChallenge(http.Header{"Www-Authenticate": {`Basic realm="a"`, `Negotiate, Bearer Realm="https://x/y?a=b,c", service=s`}})
	if !ok || c.scheme != "bearer" || c.params["realm"] != "https://x/y?a=b,c" || c.params["service"] != "s" {
		t.Errorf("%+v %v", c, ok)
	}
}
