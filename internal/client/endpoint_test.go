package client

import (
	"os"
	"testing"
)

func TestParseHost(t *testing.T) {
	for in, want := range map[string]string{
		"unix:///x/y.sock":      "unix:///x/y.sock",
		"unix://":               "unix:///var/run/docker.sock",
		"tcp://h:1":             "tcp://h:1",
		"tcp://h":               "tcp://h:2375",
		"tcp://[::1]:5":         "tcp://[::1]:5",
		"h:77":                  "tcp://h:77",
		"tcp://:99":             "tcp://localhost:99",
		"http://h:1/":           "tcp://h:1",
		"ssh://u@h:22":          "ssh://u@h:22",
		"ssh://h/run/kist.sock": "ssh://h/run/kist.sock",
	} {
		e, err := ParseHost(in)
		if err != nil || e.String() != want {
			t.Errorf("%s: %s %v", in, e, err)
		}
	}
	for _, in := range []string{"unix://rel", "fd://x", "ssh://", "ssh://-oProxyCommand=x", "ssh://u:p@h", "tcp://a/b:1", "tcp://a b"} {
		if e, err := ParseHost(in); err == nil {
			t.Errorf("%s was taken for %s", in, e)
		}
	}
}

func TestFindEndpoint(t *testing.T) {
	env := func(m map[string]string) func(string) string { return func(k string) string { return m[k] } }
	for _, tc := range []struct {
		flag string
		env  map[string]string
		want string
		own  bool
	}{
		{"tcp://f:1", map[string]string{"KIST_HOST": "tcp://k:1"}, "tcp://f:1", false},
		{"", map[string]string{"KIST_HOST": "tcp://k:1", "DOCKER_HOST": "tcp://d:1"}, "tcp://k:1", false},
		{"", map[string]string{"DOCKER_HOST": "tcp://d:1"}, "tcp://d:1", false},
		{"", map[string]string{"KIST_EXEC_ROOT": "/x"}, "unix:///x/kist.sock", true},
	} {
		e, err := FindEndpoint(tc.flag, env(tc.env))
		if err != nil || e.String() != tc.want || e.Own != tc.own {
			t.Errorf("%+v: %s %v %v", tc, e, e.Own, err)
		}
	}
	r := FindRoots(env(map[string]string{"XDG_RUNTIME_DIR": "/run/user/1", "HOME": "/home/u"}))
	if os.Geteuid() == 0 && (r.Data != "/var/lib/kist" || r.Exec != "/run/kist" || r.Set) {
		t.Errorf("%+v", r)
	}
	r = FindRoots(env(map[string]string{"KIST_DATA_ROOT": "/d", "KIST_EXEC_ROOT": "/e"}))
	if r.Log() != "/d/kistd.log" || len(r.flags()) != 4 {
		t.Errorf("%+v", r)
	}
}
