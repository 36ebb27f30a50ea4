package logfile

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestParseConfig(t *testing.T) {
	tests := []struct {
		driver  string
		options map[string]string
		want    Config
		bad     string // what the error names
	}{
		{driver: "", want: Config{Driver: "json-file"}},
		{driver: "local", want: Config{Driver: "local", Compress: true}},
		{
			driver: "json-file", options: map[string]string{"max-size": "10k", "max-file": "5", "compress": "true"},
			want: Config{Driver: "json-file", MaxSize: 10_000, MaxFiles: 5, Compress: true},
		},
		{driver: "json-file", options: map[string]string{"max-size": "-1"}, want: Config{Driver: "json-file", MaxSize: -1}},
		{driver: "json-file", options: map[string]string{"mode": "non-blocking", "max-buffer-size": "4m"}, want: Config{Driver: "json-file"}},
		{driver: "none", options: map[string]string{"mode": "blocking"}, want: Config{Driver: "none"}},
		{driver: "json-file", options: map[string]string{"labels": "a", "env-regex": "^X", "tag": "{{.Name}}/{{ .ID }}"}, want: Config{Driver: "json-file"}},
		{driver: "syslog", bad: "syslog"},
		{driver: "none", options: map[string]string{"max-size": "1m"}, bad: "max-size"},
		{driver: "json-file", options: map[string]string{"colour": "1"}, bad: "colour"},
		{driver: "json-file", options: map[string]string{"max-size": "much"}, bad: "much"},
		{driver: "json-file", options: map[string]string{"max-size": "0"}, bad: "positive"},
		{driver: "json-file", options: map[string]string{"max-file": "0"}, bad: "less than 1"},
		{driver: "json-file", options: map[string]string{"max-file": "x"}, bad: "max-file"},
		{driver: "json-file", options: map[string]string{"compress": "maybe"}, bad: "maybe"},
		{driver: "json-file", options: map[string]string{"compress": "true", "max-file": "1"}, bad: "max-file is less than 2"},
		{driver: "json-file", options: map[string]string{"mode": "sometimes"}, bad: "sometimes"},
		{driver: "json-file", options: map[string]string{"max-buffer-size": "big"}, bad: "big"},
		{driver: "json-file", options: map[string]string{"labels-regex": "("}, bad: "labels-regex"},
		{driver: "json-file", options: map[string]string{"tag": "{{.Nonsense}}"}, bad: "Nonsense"},
	}
	for _, c := range tests {
		got, err := ParseConfig(c.driver, "/p", c.options)
		if c.bad != "" {
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("%s %v: error %v, want one about %q", c.driver, c.options, err, c.bad)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s %v: %v", c.driver, c.options, err)
			continue
		}
		if got.Driver != c.want.Driver || got.MaxSize != c.want.MaxSize || got.MaxFiles != c.want.MaxFiles ||
			got.Compress != c.want.Compress || got.Path != "/p" {
			t.Errorf("%s %v: %+v, want %+v", c.driver, c.options, got, c.want)
		}
	}
}

func TestAttributes(t *testing.T) {
	c := Container{
		ID: strings.Repeat("ab", 32), Name: "web", ImageID: "sha256:" + strings.Repeat("cd", 32), ImageName: "nginx:1",
		DaemonName: "kist", Labels: map[string]string{"team": "x", "tier": "db", "other": "o"}, Env: []string{"A=1", "B=2", "XC=3", "NOVALUE"},
	}
	got, err := Attributes(map[string]string{
		"labels": "team,missing", "labels-regex": "^ti", "env": "A, B", "env-regex": "^X", "tag": "{{.ImageName}}/{{.Name}}/{{.ID}}-{{.ImageID}}",
	}, c)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"team": "x", "tier": "db", "A": "1", "B": "2", "XC": "3", "tag": "nginx:1/web/abababababab-cdcdcdcdcdcd"}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %q, want %q", k, got[k], v)
		}
	}
	if got, err := Attributes(nil, c); got != nil || err != nil {
		t.Errorf("without options: %v, %v", got, err)
	}
	if _, err := Attributes(map[string]string{"env-regex": "["}, c); !errdefs.IsInvalidArgument(err) {
		t.Errorf("bad expression: %v", err)
	}
}
