package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestImageNames(t *testing.T) {
	for in, want := range map[string][3]string{
		"web":                       {"docker.io/library/web", "web", "docker.io"},
		"a/b:1":                     {"docker.io/a/b:1", "a/b", "docker.io"},
		"localhost/x":               {"localhost/x", "localhost/x", "localhost"},
		"localhost:5000/x/y:2":      {"localhost:5000/x/y:2", "localhost:5000/x/y", "localhost:5000"},
		"r.test/x@sha256:ab":        {"r.test/x@sha256:ab", "r.test/x", "r.test"},
		"r.test/x:1@sha256:ab":      {"r.test/x:1@sha256:ab", "r.test/x", "r.test"},
		"docker.io/web":             {"docker.io/library/web", "web", "docker.io"},
		"index.docker.io/library/w": {"docker.io/library/w", "w", "docker.io"},
	} {
		n, err := parseImage(in)
		if err != nil || n.String() != want[0] || n.familiar() != want[1] || n.domain != want[2] {
			t.Errorf("%s: %s %s %s %v", in, n, n.familiar(), n.domain, err)
		}
	}
	for _, in := range []string{"", "a:", "a@b", "A/b c", "x/Upper", "r.test/", "a?b"} {
		if n, err := parseImage(in); err == nil {
			t.Errorf("%q was taken for %s", in, n)
		}
	}
}

func TestLogin(t *testing.T) {
	d := newFakeDaemon(t)
	d.answer("POST /auth", 200, `{"Status":"Login Succeeded"}`)
	dir := t.TempDir()
	file := filepath.Join(dir, "config.json")
	if err := os.WriteFile(file, []byte(`{"unknown":{"kept":1},"detachKeys":"ctrl-a"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"DOCKER_CONFIG": dir}
	r := d.kistWith(strings.NewReader("secret\n"), env, "login", "-u", "me", "--password-stdin", "https://r.test/v2/")
	if r.code != 0 || r.out != "Login Succeeded\n" {
		t.Fatalf("%+v", r)
	}
	b, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(b), `"kept"`) {
		t.Errorf("%s %v", b, err)
	}
	a := &app{getenv: func(k string) string { return env[k] }, err: os.Stderr}
	c, err := a.credentials("r.test")
	if err != nil || c.Username != "me" || c.Password != "secret" || c.ServerAddress != "r.test" {
		t.Errorf("%+v %v", c, err)
	}
	if c, err := a.credentials("other.test"); err != nil || c.Username != "" {
		t.Errorf("%+v %v", c, err)
	}
	if r := d.kistWith(strings.NewReader(""), env, "logout", "r.test"); r.code != 0 {
		t.Errorf("%+v", r)
	}
	a.settings = nil
	if c, err := a.credentials("r.test"); err != nil || c.Username != "" {
		t.Errorf("%+v %v", c, err)
	}
	if r := d.kist("login", "r.test"); r.code != 1 || !strings.Contains(r.err, "not a terminal") {
		t.Errorf("%+v", r)
	}
}

func TestCredentialHelper(t *testing.T) {
	bin := t.TempDir()
	helper := "#!/bin/sh\nread name\ncase \"$1 $name\" in\n" +
		"'get r.test') echo '{\"ServerURL\":\"r.test\",\"Username\":\"h\",\"Secret\":\"s\"}';;\n" +
		"'get t.test') echo '{\"Username\":\"<token>\",\"Secret\":\"tok\"}';;\n" +
		"*) echo 'credentials not found in native keychain'; exit 1;;\nesac\n"
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-fake"), []byte(helper), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	a := &app{settings: &settings{CredsStore: "fake"}}
	if c, err := a.credentials("r.test"); err != nil || c.Username != "h" || c.Password != "s" {
		t.Errorf("%+v %v", c, err)
	}
	if c, err := a.credentials("t.test"); err != nil || c.IdentityToken != "tok" {
		t.Errorf("%+v %v", c, err)
	}
	if c, err := a.credentials("none.test"); err != nil || c.Username != "" {
		t.Errorf("%+v %v", c, err)
	}
	a.settings.CredsStore = "../evil"
	if _, err := a.credentials("r.test"); err == nil {
		t.Error("a path was run as a helper")
	}
}

func TestProxyEnv(t *testing.T) {
	var s settings
	if err := json.Unmarshal([]byte(`{"proxies":{"default":{"httpProxy":"p"},"tcp://x:1":{"noProxy":"n"}}}`), &s); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.proxyEnv("unix:///y"), " "); got != "HTTP_PROXY=p http_proxy=p" {
		t.Error(got)
	}
	if got := strings.Join(s.proxyEnv("tcp://x:1"), " "); got != "NO_PROXY=n no_proxy=n" {
		t.Error(got)
	}
}
