package bootstrap

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kistdev/kist/internal/bootmsg"
)

// hostOf writes apt's configuration: path, content, path, content.
func hostOf(t *testing.T, files ...string) string {
	t.Helper()
	root := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		at := filepath.Join(root, files[i])
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestPlan(t *testing.T) {
	const debian = `Types: deb
URIs: http://near/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://near/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`
	const other = "deb https://deb.example/node_20.x bookworm main\ndeb [arch=vax] http://vax/debian bookworm main\n"
	for _, c := range []struct {
		name, suite string
		host        []string
		change      func(r *bootmsg.Request)
		want        string
	}{
		{
			"apt's own", "debian:bookworm",
			[]string{"etc/apt/sources.list.d/debian.sources", debian, "etc/apt/sources.list.d/other.list", other},
			nil,
			"http://near/debian bookworm [main contrib]; http://near/debian bookworm-updates [main contrib] optional; http://near/debian-security bookworm-security [main] optional",
		},
		{
			"another suite of apt's mirrors", "debian:trixie",
			[]string{"etc/apt/sources.list.d/debian.sources", debian},
			nil,
			"http://near/debian trixie [main]; http://near/debian trixie-updates [main] optional; http://near/debian-security trixie-security [main] optional",
		},
		{"one that has no updates", "debian:sid", nil, nil, "http://ftp.debian.org/debian sid [main]"},
		{
			"another distribution", "ubuntu:noble",
			[]string{"etc/apt/sources.list.d/debian.sources", debian},
			func(r *bootmsg.Request) { r.Arch = "amd64" },
			"http://archive.ubuntu.com/ubuntu noble [main universe]; http://archive.ubuntu.com/ubuntu noble-updates [main universe] optional; http://archive.ubuntu.com/ubuntu noble-security [main universe] optional",
		},
		{
			"ports", "ubuntu:noble", nil, func(r *bootmsg.Request) { r.Arch = "riscv64"; r.Components = []string{"main"} },
			"http://ports.ubuntu.com/ubuntu-ports noble [main]; http://ports.ubuntu.com/ubuntu-ports noble-updates [main] optional; http://ports.ubuntu.com/ubuntu-ports noble-security [main] optional",
		},
		{"a mirror", "debian:bookworm", []string{"etc/apt/sources.list.d/debian.sources", debian}, func(r *bootmsg.Request) { r.Mirrors = []string{"/srv/mirror"} }, "file:///srv/mirror bookworm [main]"},
		{"lines", "debian:bookworm", nil, func(r *bootmsg.Request) {
			r.Mirrors = []string{"http://a/debian", "deb [trusted=yes] http://b/x bookworm-backports main contrib"}
		}, "http://a/debian bookworm [main]; http://b/x bookworm-backports [main contrib]"},
		{"a suite alone", "noble", nil, func(r *bootmsg.Request) {
			r.Arch = "amd64"
			r.Components = []string{"main"}
			r.Mirrors = []string{"http://m"}
		}, "http://m noble [main]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := bootmsg.Request{Suite: c.suite, List: true}
			if c.change != nil {
				c.change(&r)
			}
			var notes []string
			j := &job{req: r, report: func(m bootmsg.Message) { notes = append(notes, m.Note) }}
			if err := j.check(); err != nil {
				t.Fatal(err)
			}
			j.apt = readApt(hostOf(t, c.host...), j.note)
			if err := j.plan(); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, a := range j.archives {
				s := fmt.Sprintf("%s %v", a.name(), a.components)
				if a.optional {
					s += " optional"
				}
				got = append(got, s)
			}
			if s := strings.Join(got, "; "); s != c.want || len(notes) > 0 {
				t.Errorf("%s\nwant %s\nnotes %q", s, c.want, notes)
			}
		})
	}
}

func TestProxyAndPasswords(t *testing.T) {
	root := hostOf(t, "etc/apt/apt.conf.d/10proxy", `Acquire::http::Proxy "http://proxy:3128"; Acquire::http::Proxy::direct.example "DIRECT";`,
		"etc/apt/apt.conf.d/10proxy.bak", `Acquire::http::Proxy "http://wrong";`, "etc/apt/auth.conf.d/x.conf", "machine http://secret.example login u password p", "etc/apt/sources.list", "nonsense")
	var notes []string
	a := readApt(root, func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) })
	f := newFetcher(&Maker{}, a)
	defer f.close()
	for address, want := range map[string]string{"http://any.example/x": "http://proxy:3128", "http://direct.example/x": "<nil>"} {
		r, err := http.NewRequest(http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := f.proxy(r); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v %v", address, got, err)
		}
	}
	if l, ok := a.auth.Find("http", "secret.example", "/debian"); !ok || l.Password != "p" {
		t.Error(l, ok)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "sources.list is passed over") {
		t.Errorf("%q", notes)
	}
}

func TestEffectivePreinst(t *testing.T) {
	for text, want := range map[string]bool{
		"":                                   false,
		"#!/bin/sh\nset -e\n# x\n\nexit 0\n": false,
		"#!/bin/sh\nset -e\ndpkg-maintscript-helper rm_conffile /etc/x 1.2\\~ -- \"$@\"\n": false,
		"#!/bin/sh\ndpkg-maintscript-helper rm_conffile /etc/x 1.2 -- \"$@\"; echo more\n": true,
		"#!/bin/sh\ndpkg-maintscript-helper rm_conffile $(rm x) 1.2 -- \"$@\"\n":           true,
		"#!/bin/sh\necho x\n":       true,
		"#!/usr/bin/perl\nexit 0\n": true,
		"\x7fELF":                   true,
	} {
		p := &unpacked{files: map[string]controlFile{"preinst": {data: []byte(text)}}}
		if got := p.effective(); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
