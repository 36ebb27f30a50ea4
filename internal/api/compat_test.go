package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestCreateEvensOutOldShapes(t *testing.T) {
	for _, tc := range []struct {
		name, path, body string
		status           int
		check            func(container.CreateRequest) error
	}{
		{"newest", "/v1.56/containers/create", `{"Image":"a","Cmd":["x","y"]}`, 201, func(r container.CreateRequest) error {
			if r.Image != "a" || len(r.Cmd) != 2 || r.HostConfig == nil {
				return fmt.Errorf("%+v", r)
			}
			return nil
		}},
		{"command as a string", "/v1.24/containers/create", `{"Image":"a","Cmd":"x","Entrypoint":"e"}`, 201, func(r container.CreateRequest) error {
			if len(r.Cmd) != 1 || r.Cmd[0] != "x" || len(r.Entrypoint) != 1 {
				return fmt.Errorf("%+v", r.Config)
			}
			return nil
		}},
		{"MAC of the container", "/v1.40/containers/create", `{"Image":"a","MacAddress":"02:42:ac:11:00:02"}`, 201, func(r container.CreateRequest) error {
			if ep := r.NetworkingConfig.EndpointsConfig["bridge"]; ep == nil || ep.MacAddress.String() != "02:42:ac:11:00:02" {
				return fmt.Errorf("%+v", r.NetworkingConfig)
			}
			return nil
		}},
		{"nothing", "/containers/create", "", 400, nil},
		{"not JSON", "/containers/create", "{", 400, nil},
		{"null", "/containers/create", "null", 400, nil},
		{"wrong type", "/containers/create", `{"Image":7}`, 400, nil},
		{"unknown platform", "/containers/create?platform=a/b/c/d/e", `{"Image":"a"}`, 400, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, &fake{create: func(_ string, _ *ocispec.Platform, r container.CreateRequest) (container.CreateResponse, error) {
				if tc.check == nil {
					t.Error("reached the engine")
				} else if err := tc.check(r); err != nil {
					t.Error(err)
				}
				return container.CreateResponse{ID: "x"}, nil
			}})
			w := do(s, http.MethodPost, tc.path, tc.body)
			if w.Code != tc.status {
				t.Errorf("%d %s, want %d", w.Code, w.Body, tc.status)
			}
			if w.Code == 201 && !strings.Contains(w.Body.String(), `"Warnings":[]`) {
				t.Errorf("warnings are not a list: %s", w.Body)
			}
		})
	}
}

func FuzzDecodeCreate(f *testing.F) {
	f.Add([]byte(`{"Image":"a","Cmd":"x","HostConfig":{"Memory":-1}}`))
	f.Add([]byte(`{"Cmd":[1]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		req, err := decodeCreate(newest, raw)
		if err == nil && (req.Config == nil || req.HostConfig == nil) {
			t.Errorf("%q: no error and no config", raw)
		}
		if err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v is not the client's fault", raw, err)
		}
	})
}

// TestCreateAsOf: a request means what it meant in its version.
func TestCreateAsOf(t *testing.T) {
	body := func(host string) string { return `{"Image":"a","HostConfig":{` + host + `}}` }
	for _, tc := range []struct {
		v     version
		body  string
		fault string
		check func(h *container.HostConfig) bool
	}{
		{24, body(""), "", func(h *container.HostConfig) bool { return h.IpcMode == "shareable" }},
		{40, body(""), "", func(h *container.HostConfig) bool { return h.IpcMode == "" }},
		{40, body(`"PidsLimit":0`), "", func(h *container.HostConfig) bool { return h.PidsLimit == nil }},
		{41, body(`"PidsLimit":0`), "", func(h *container.HostConfig) bool { return h.PidsLimit != nil }},
		{42, body(`"Annotations":{"a":"b"}`), "", func(h *container.HostConfig) bool { return h.Annotations == nil }},
		{43, body(`"Annotations":{"a":"b"}`), "", func(h *container.HostConfig) bool { return h.Annotations["a"] == "b" }},
		{41, body(`"Mounts":[{"Type":"volume","Target":"/x","BindOptions":{"Propagation":"shared"}}]`), "", func(h *container.HostConfig) bool { return h.Mounts[0].BindOptions == nil }},
		{43, body(`"Mounts":[{"Type":"bind","Source":"/a","Target":"/x","ReadOnly":true}]`), "", func(h *container.HostConfig) bool { return h.Mounts[0].BindOptions.ReadOnlyNonRecursive }},
		{44, body(`"Mounts":[{"Type":"bind","Source":"/a","Target":"/x","ReadOnly":true}]`), "", func(h *container.HostConfig) bool { return h.Mounts[0].BindOptions == nil }},
		{43, body(`"Mounts":[{"Type":"bind","BindOptions":{"ReadOnlyForceRecursive":true}}]`), "needs API v1.44", nil},
		{44, body(`"Mounts":[{"Type":"volume","VolumeOptions":{"Subpath":"x"}}]`), "needs API v1.45", nil},
		{47, body(`"Mounts":[{"Type":"image"}]`), "needs API v1.48", nil},
		{55, body(`"Umask":18`), "", func(h *container.HostConfig) bool { return h.Umask == nil }},
		{43, `{"Image":"a","NetworkingConfig":{"EndpointsConfig":{"a":{},"b":{}}}}`, "multiple network endpoints", nil},
		{56, body(`"Ulimits":[null]`), "null in a list", nil},
	} {
		req, err := decodeCreate(tc.v, []byte(tc.body))
		switch {
		case tc.fault == "" && err != nil, tc.fault != "" && (err == nil || !strings.Contains(err.Error(), tc.fault)):
			t.Errorf("v%s %s: %v, want %q", tc.v, tc.body, err, tc.fault)
		case tc.check != nil && !tc.check(req.HostConfig):
			t.Errorf("v%s %s: %+v", tc.v, tc.body, req.HostConfig)
		}
	}
}
