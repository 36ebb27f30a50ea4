package debian

import (
	"fmt"
	"strings"
	"testing"
)

func TestSourceList(t *testing.T) {
	list, err := ParseSourceList(`# comment
deb http://ftp.debian.org/debian bookworm main contrib # here, too
deb-src http://ftp.debian.org/debian bookworm main
deb	[ arch=amd64,arm64 signed-by=/k.gpg trusted=yes check-valid-until=no ] https://m/x  sid main
deb [trusted=no] http://flat ./
`)
	if err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
	got := fmt.Sprintf("%+v", list)
	for _, want := range []string{
		"Suites:[bookworm] Components:[main contrib]", "Archs:[amd64 arm64] SignedBy:[/k.gpg]", "Trusted:true NoValidUntil:true", "Suites:[./] Components:[]",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s lacks %s", got, want)
		}
	}
	if !list[2].Flat() || list[0].Flat() {
		t.Error("flat")
	}
	for _, bad := range []string{"rpm http://x y", "deb", "deb http://x", "deb [arch=x http://x y"} {
		if _, err := ParseSourceList(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestSources(t *testing.T) {
	list, err := ParseSources([]byte(`Types: deb deb-src
URIs: http://a http://b
Suites: bookworm bookworm-updates
Components: main
Signed-By: /a.gpg, /b.gpg
Check-Valid-Until: no

Types: deb
Enabled: no
URIs: http://c
Suites: x

Types: deb
URIs: http://d
Suites: y
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----
`))
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	if a := list[0]; len(a.URIs) != 2 || len(a.Suites) != 2 || fmt.Sprint(a.SignedBy) != "[/a.gpg /b.gpg]" || !a.NoValidUntil {
		t.Errorf("%+v", a)
	}
	if got := list[1].SignedKey; got != "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n-----END PGP PUBLIC KEY BLOCK-----\n" {
		t.Errorf("%q", got)
	}
	if _, err := ParseSources([]byte("Types: deb\nURIs: x\n")); err == nil {
		t.Error("a source without suites is taken")
	}
}

func TestAptConf(t *testing.T) {
	c := AptConf{}
	err := c.Read(`// comment
Acquire::http::Proxy "http://proxy:3128/"; # another
Acquire { https { Proxy "http://p2"; Proxy::host "DIRECT"; }; Retries 3; /* long
comment */ };
APT { NeverAutoRemove { "^firmware"; "^linux"; }; };
DPkg::Pre-Install-Pkgs {"/usr/sbin/dpkg-preconfigure --apt || true";};
Acquire::Check-Valid-Until "false";
`)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"acquire::http::proxy": "http://proxy:3128/", "Acquire::HTTPS::Proxy": "http://p2", "Acquire::https::Proxy::host": "DIRECT", "Acquire::Retries": "3",
		"Acquire::Check-Valid-Until": "false", "nothing": "",
	} {
		if got := c.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, bad := range []string{`a "b`, "};", "/* no end"} {
		if err := (AptConf{}).Read(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestAuth(t *testing.T) {
	var a Auth
	a.Read("# comment\nmachine example.org login u password p\nmachine http://plain/debian login v\npassword q\nmachine broken")
	for _, c := range []struct {
		scheme, host, path, want string
	}{
		{"https", "example.org", "/debian/x", "u:p"},
		{"http", "example.org", "/debian/x", ""},
		{"http", "plain", "/debian/x", "v:q"},
		{"http", "plain", "/debianx", ""},
		{"https", "plain", "/debian/x", ""},
		{"https", "other", "/", ""},
	} {
		got := ""
		if l, ok := a.Find(c.scheme, c.host, c.path); ok {
			got = l.User + ":" + l.Password
		}
		if got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func FuzzApt(f *testing.F) {
	f.Add("deb [arch=a,b] http://x y z\n", "A { B \"c\"; }; D::E f;", "machine a login b password c")
	f.Fuzz(func(_ *testing.T, list, conf, auth string) {
		_, _ = ParseSourceList(list)
		_, _ = ParseSources([]byte(list))
		_ = AptConf{}.Read(conf)
		var a Auth
		a.Read(auth)
		a.Find("https", "a", "/b")
	})
}
