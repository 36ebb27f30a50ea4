package client

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
)

// What the daemon decodes is the same as if encoding/json had written it.
func TestEncode(t *testing.T) {
	limit := int64(7)
	yes := true
	port := network.MustParsePort("80/tcp")
	for name, v := range map[string]any{
		"nothing": container.CreateRequest{},
		"little":  &container.CreateRequest{Config: &container.Config{Image: "<a>", AttachStdout: true}, HostConfig: &container.HostConfig{AutoRemove: true}},
		"much": &container.CreateRequest{
			Config: &container.Config{
				Hostname: "h\"ö", Env: []string{"A=1"}, Cmd: []string{}, Entrypoint: []string{""}, Volumes: map[string]struct{}{"/v": {}},
				ExposedPorts: network.PortSet{port: {}}, Labels: map[string]string{"b": "", "a": "x"},
				Healthcheck: &container.HealthConfig{Test: []string{"NONE"}, Interval: time.Second},
			},
			HostConfig: &container.HostConfig{
				Binds: []string{"/a:/b"}, NetworkMode: "host", PortBindings: network.PortMap{port: {{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: "1"}}},
				RestartPolicy: container.RestartPolicy{Name: "always"}, ConsoleSize: [2]uint{24, 80}, DNS: []netip.Addr{netip.MustParseAddr("::1")},
				Resources: container.Resources{Memory: 1 << 20, PidsLimit: &limit, OomKillDisable: &yes, Ulimits: []*container.Ulimit{{Name: "nofile", Hard: 1}}},
				Mounts:    []mount.Mount{{Type: mount.TypeTmpfs, Target: "/t", TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 1}}},
				LogConfig: container.LogConfig{Config: map[string]string{}}, Tmpfs: map[string]string{"/x": ""},
			},
			NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{"n": {Aliases: []string{"a"}}, "none": nil}},
		},
		"nil":    nil,
		"no one": (*container.CreateRequest)(nil),
		"map":    map[string]int{"a": 0},
	} {
		t.Run(name, func(t *testing.T) {
			own, err := encode(v)
			if err != nil {
				t.Fatal(err)
			}
			standard, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			var got, want container.CreateRequest
			if err := json.Unmarshal(own, &got); err != nil {
				t.Fatalf("%v: %s", err, own)
			}
			if err := json.Unmarshal(standard, &want); err != nil {
				t.Fatal(err)
			}
			if want.Config != nil && reflect.ValueOf(*want.Config).IsZero() {
				want.Config = nil // json.Marshal writes an embedded pointer's fields even when all are zero.
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s\nis not the same as\n%s", own, standard)
			}
		})
	}
}
