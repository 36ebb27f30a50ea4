package main

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestConfig(t *testing.T) {
	t.Setenv("KIST_DATA_ROOT", "/data")
	t.Setenv("KIST_EXEC_ROOT", "/exec")
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "daemon.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tc := range []struct {
		name  string
		args  []string
		fault string
		check func(*config) bool
	}{
		{"nothing", nil, "", func(c *config) bool {
			return c.DataRoot == "/data" && c.PidFile == "/exec/kistd.pid" && slices.Equal(c.Hosts, []string{"unix:///exec/kist.sock"}) &&
				strings.HasPrefix(c.CgroupParent, "/kist-")
		}},
		{"the default data root", []string{"--data-root", "/var/lib/kist"}, "", func(c *config) bool {
			return c.instance() == "0" && c.CgroupParent == ""
		}},
		{"several sockets", []string{"-H", "unix:///a", "-H", "tcp://127.0.0.1:1"}, "", func(c *config) bool { return len(c.Hosts) == 2 }},
		{"configuration file", []string{"--config-file", file(`{"bip":"10.9.0.1/24","registry-mirrors":["https://m"],"log-opts":{"max-size":"1m"}}`)}, "", func(c *config) bool {
			return c.BIP == "10.9.0.1/24" && c.Mirrors[0] == "https://m" && c.LogOpts["max-size"] == "1m"
		}},
		{"device specifications", []string{"--config-file", file(`{"cdi-spec-dirs":["/x"],"features":{"cdi":true,"containerd-snapshotter":true}}`)}, "", func(c *config) bool {
			return slices.Equal(c.CDIDirs, []string{"/x"})
		}},
		{"device specifications by default", nil, "", func(c *config) bool { return slices.Equal(c.CDIDirs, []string{"/etc/cdi", "/var/run/cdi"}) }},
		{"device specifications by flag", []string{"--cdi-spec-dir", "/a", "--cdi-spec-dir", "/b"}, "", func(c *config) bool { return slices.Equal(c.CDIDirs, []string{"/a", "/b"}) }},
		{"no devices", []string{"--config-file", file(`{"features":{"cdi":false}}`)}, "", func(c *config) bool { return c.CDIDirs == nil }},
		{"given twice", []string{"--bip", "10.9.0.1/24", "--config-file", file(`{"bip":"10.9.0.1/24"}`)}, "both as a flag and in", nil},
		{"TLS without clients' certificates", []string{"--tlsverify=false"}, "", func(c *config) bool { return c.TLS && !c.TLSVerify && c.given["tlsverify"] }},
		{"a socket of narrower scope", []string{"--socket", "path=/s,read-only,mode=0600", "--socket", "path=/t,project=shop,bind=/srv/a,bind=/srv/b:ro,subnet=10.1.2.0/24,no-pull"}, "", func(c *config) bool {
			return len(c.Sockets) == 2 && c.Sockets[0].ReadOnly && c.Sockets[0].Mode == "0600" && c.Sockets[1].Project == "shop" && len(c.Sockets[1].Binds) == 2 && c.Sockets[1].NoPull
		}},
		{"the same in the file", []string{"--config-file", file(`{"sockets":[{"path":"/s","read-only":true}],"access-log":"all"}`)}, "", func(c *config) bool {
			return len(c.Sockets) == 1 && c.Sockets[0].ReadOnly && c.AccessLog == "all"
		}},
		{"a mistyped word in the file", []string{"--config-file", file(`{"sockets":[{"path":"/s","project":"x","readonly":true}]}`)}, "readonly", nil},
		{"a mistyped word", []string{"--socket", "path=/s,readonly"}, "readonly", nil},
		{"a socket that limits nothing", []string{"--socket", "path=/s"}, "read-only", nil},
		{"a socket nowhere", []string{"--socket", "path=s,read-only"}, "whole path", nil},
		{"a bad subnet", []string{"--socket", "path=/s,project=x,subnet=10.0.0.1"}, "subnet", nil},
		{"what to log", []string{"--access-log", "everything"}, "everything", nil},
		{"given twice under two names", []string{"-H", "unix:///a", "--config-file", file(`{"hosts":["unix:///b"]}`)}, "both as a flag and in", nil},
		{"unknown key", []string{"--config-file", file(`{"bipp":"x"}`)}, "bipp", nil},
		{"no JSON", []string{"--config-file", file(`{`)}, "configuration", nil},
		{"no such file", []string{"--config-file", "/nonexistent"}, "no such file", nil},
		{"unknown flag", []string{"--nosuch"}, "nosuch", nil},
		{"argument", []string{"run"}, "takes flags only", nil},
		{"log level", []string{"-l", "loud"}, "loud", nil},
		{"address", []string{"--bip", "172.17.0.1"}, "with a prefix", nil},
		{"cgroup driver", []string{"--exec-opt", "native.cgroupdriver=both"}, "cgroupfs", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := parseConfig(tc.args)
			switch {
			case tc.fault == "" && err != nil:
				t.Fatal(err)
			case tc.fault != "" && (err == nil || !strings.Contains(err.Error(), tc.fault)):
				t.Fatalf("%v, want %q in it", err, tc.fault)
			case tc.check != nil && !tc.check(c):
				t.Errorf("%+v", c)
			}
		})
	}
}

func TestListenLeavesALivingDaemonAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first, err := listenUnix("unix", path, "")
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	if _, err := listenUnix("unix", path, ""); err == nil || !strings.Contains(err.Error(), "another daemon") {
		t.Errorf("took a living daemon's socket: %v", err)
	}
	first.Close()
	second, err := listenUnix("unix", path, "") // What a dead one left is replaced.
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
}

func TestListenRefusesAnOpenDoor(t *testing.T) {
	for _, host := range []string{"tcp://0.0.0.0:0", "tcp://:0", "tcp://10.0.0.1:0", "udp://127.0.0.1:0", "nonsense"} {
		if ls, err := listen(&config{Hosts: []string{host}}); err == nil {
			t.Errorf("%s: listens on %v without TLS", host, ls[0].Addr())
		}
	}
	if ls, err := listen(&config{Hosts: []string{"tcp://0.0.0.0:0"}, TLS: true}); err == nil {
		t.Errorf("listens on %v without asking for clients' certificates", ls[0].Addr())
	}
	asked, err := listen(&config{Hosts: []string{"tcp://0.0.0.0:0"}, given: map[string]bool{"tls": true}})
	if err != nil {
		t.Fatal(err)
	}
	asked[0].Close()
	ls, err := listen(&config{Hosts: []string{"tcp://127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	defer ls[0].Close()
	if _, ok := ls[0].Addr().(*net.TCPAddr); !ok {
		t.Errorf("%v", ls[0].Addr())
	}
}

func TestClaimIsExclusive(t *testing.T) {
	c := &config{DataRoot: t.TempDir(), ExecRoot: t.TempDir()}
	c.PidFile = filepath.Join(c.ExecRoot, "kistd.pid")
	release, err := claim(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claim(&config{DataRoot: c.DataRoot, ExecRoot: t.TempDir(), PidFile: filepath.Join(t.TempDir(), "p")}); err == nil || !strings.Contains(err.Error(), "another kistd") {
		t.Errorf("two daemons on one data root: %v", err)
	}
	release()
	release, err = claim(c)
	if err != nil {
		t.Fatal(err)
	}
	release()
}
