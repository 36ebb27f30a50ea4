package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/engine"
	"github.com/kistdev/kist/internal/event"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/filter"
	"github.com/kistdev/kist/internal/image"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/volume"
)

// deserted is an engine without a container: what asks for one by name is told so.
type deserted struct{ containers }

var errDeserted = fmt.Errorf("no such container: %w", errdefs.ErrNotFound)

func (deserted) Create(context.Context, string, *ocispec.Platform, container.CreateRequest) (container.CreateResponse, error) {
	return container.CreateResponse{}, errDeserted
}
func (deserted) Start(context.Context, string) error                        { return errDeserted }
func (deserted) Stop(context.Context, string, engine.StopOptions) error     { return errDeserted }
func (deserted) Restart(context.Context, string, engine.StopOptions) error  { return errDeserted }
func (deserted) Kill(context.Context, string, string) error                 { return errDeserted }
func (deserted) Pause(context.Context, string) error                        { return errDeserted }
func (deserted) Unpause(context.Context, string) error                      { return errDeserted }
func (deserted) Remove(context.Context, string, engine.RemoveOptions) error { return errDeserted }
func (deserted) Rename(context.Context, string, string) error               { return errDeserted }
func (deserted) Logs(context.Context, string, engine.LogsOptions) error     { return errDeserted }
func (deserted) Attach(context.Context, string, engine.AttachOptions) error { return errDeserted }
func (deserted) Resize(context.Context, string, uint16, uint16) error       { return errDeserted }
func (deserted) Wait(context.Context, string, container.WaitCondition) (<-chan container.WaitResponse, error) {
	return nil, errDeserted
}

func (deserted) Update(context.Context, string, container.UpdateConfig) (container.UpdateResponse, error) {
	return container.UpdateResponse{}, errDeserted
}

func (deserted) Inspect(context.Context, string, bool) (*engine.Inspection, error) {
	return nil, errDeserted
}

func (deserted) List(context.Context, engine.ListOptions) ([]engine.Summary, error) {
	return nil, nil
}

func (deserted) Top(context.Context, string, string) (container.TopResponse, error) {
	return container.TopResponse{}, errDeserted
}

func (deserted) Stats(context.Context, string, bool, bool, func(*container.StatsResponse) error) error {
	return errDeserted
}

func (deserted) Changes(context.Context, string) ([]container.FilesystemChange, error) {
	return nil, errDeserted
}

func (deserted) StatPath(context.Context, string, string) (*container.PathStat, error) {
	return nil, errDeserted
}

func (deserted) GetArchive(context.Context, string, string, func(*container.PathStat) (io.Writer, error)) error {
	return errDeserted
}

func (deserted) PutArchive(context.Context, string, string, io.Reader, engine.PutArchiveOptions) error {
	return errDeserted
}

func (deserted) Export(context.Context, string, func() (io.Writer, error)) error { return errDeserted }

func (deserted) Commit(context.Context, string, engine.CommitOptions) (string, error) {
	return "", errDeserted
}

func (deserted) ConnectNetwork(context.Context, string, string, *network.EndpointSettings) error {
	return errDeserted
}

func (deserted) DisconnectNetwork(context.Context, string, string, bool) error { return errDeserted }

func (deserted) Publish(context.Context, string, network.PortMap, network.PortMap) error {
	return errDeserted
}

func (deserted) PruneContainers(context.Context, filter.Args) (container.PruneReport, error) {
	return container.PruneReport{}, nil
}

func (deserted) ExecCreate(context.Context, string, container.ExecCreateRequest) (string, error) {
	return "", errDeserted
}

func (deserted) ExecStart(context.Context, string, engine.ExecStartOptions) error { return errDeserted }

func (deserted) ExecResize(context.Context, string, uint16, uint16) error { return errDeserted }

func (deserted) ExecInspect(context.Context, string) (*container.ExecInspectResponse, error) {
	return nil, errDeserted
}
func (deserted) Info(context.Context) (*system.Info, error) { return new(system.Info), nil }
func (deserted) DiskUsage(context.Context) (*engine.DiskUsage, error) {
	return new(engine.DiskUsage), nil
}

// FuzzHandler sends anything to everything: nothing fails inside, and errors have Docker's form.
func FuzzHandler(f *testing.F) {
	for _, seed := range []struct{ line, kind, body string }{
		{"GET /v1.41/containers/json?filters={\"label\":{\"a\":true}}&limit=-1", "", ""},
		{"POST /containers/create?name=x&platform={\"os\":1}", "application/json", `{"Image":"x","HostConfig":{"Memory":-1,"PortBindings":{"a":null}}}`},
		{"POST /v1.24/containers/create", "application/json", `{"Cmd":"x","Entrypoint":{},"MacAddress":"zz"}`},
		{"POST /containers/x/update", "application/json", `{"RestartPolicy":{"Name":1}}`},
		{"POST /containers/x/exec", "application/json", `{"Cmd":[],"ConsoleSize":[-1,2]}`},
		{"POST /exec/x/start", "text/plain", `{}`},
		{"POST /containers/x/resize?h=99999999999999999999&w=-1", "", ""},
		{"GET /containers/x/logs?stdout=1&since=1e9&until=9999999999999999999.1&tail=-5", "", ""},
		{"GET /events?since=1&until=2&filters=[]", "", ""},
		{"GET /images/a/b/c/json?platform=linux/amd64&platform=x", "", ""},
		{"POST /images/create?fromSrc=-&changes=FROM&changes=ENV", "application/x-tar", "\x1f\x8b\x08"},
		{"POST /images/load?platform={}", "", "x"},
		{"DELETE /images/?platforms=[]", "", ""},
		{"POST /images/x/tag?repo=..&tag=:", "", ""},
		{"GET /images/get?names=a&names=@", "", ""},
		{"GET /images/search?term=&limit=0", "", ""},
		{"POST /volumes/create", "application/json", `{"Name":"../x","DriverOpts":{"o":"\u0000"}}`},
		{"POST /volumes/prune?filters={\"until\":[\"x\"]}", "", ""},
		{"GET /system/df?type=x&verbose=maybe", "", ""},
		{"POST /commit?container=x&changes=\x00", "application/json", `{"Labels":7}`},
		{"POST /auth", "application/json", `{"auth":"!!"}`},
		{"PUT /containers/x/archive?path=%00", "", "x"},
		{"GET /v1.99999999999/_ping", "", ""},
		{"GET //v1.41//images//json", "", ""},
		{"GET /containers/x/attach/ws", "", ""},
		{"POST /build?buildargs=[", "application/x-tar", ""},
	} {
		f.Add(seed.line, seed.kind, []byte(seed.body))
	}
	layers, err := layer.Open(filepath.Join(f.TempDir(), "layers"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = layers.Close() })
	images, err := image.Open(image.Options{Dir: filepath.Join(f.TempDir(), "content"), Layers: layers})
	if err != nil {
		f.Fatal(err)
	}
	bus := new(event.Bus)
	volumes, err := volume.Open(filepath.Join(f.TempDir(), "volumes"), bus)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = volumes.Close() })
	s := New(Config{Containers: deserted{}, Host: deserted{}, Images: images, Volumes: volumes, Events: bus, Log: slog.New(slog.DiscardHandler)})
	f.Fuzz(func(t *testing.T, line, kind string, body []byte) {
		method, target, ok := strings.Cut(line, " ")
		target = strings.ReplaceAll(target, " ", "%20")
		if !ok || !strings.HasPrefix(target, "/") || outside(target) {
			t.Skip()
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(string(body)))
		if err != nil {
			t.Skip()
		}
		r.Header.Set("Content-Type", kind)
		if strings.Contains(target, "events") { // They have no end.
			cancel()
		}
		w := duplex{httptest.NewRecorder()}
		s.ServeHTTP(w, r)
		if w.Code >= 500 && w.Code != 501 && w.Code != 503 {
			t.Errorf("%q %q: %d %s", line, body, w.Code, w.Body)
		}
		var e fault.Parts
		isRedirect := w.Code >= 300 && w.Code < 400
		if w.Code >= 300 && !isRedirect && (json.Unmarshal(w.Body.Bytes(), &e) != nil || e.Message == "") {
			t.Errorf("%q: %d without a message: %s", line, w.Code, w.Body)
		}
	})
}

// duplex is a recorder that can read while it writes, as a real connection.
type duplex struct{ *httptest.ResponseRecorder }

// EnableFullDuplex has nothing to do.
func (duplex) EnableFullDuplex() error { return nil }

// outside says that a request would go to networks, which there are none of here, or to other machines.
func outside(target string) bool {
	for _, part := range []string{"network", "fromImage", "fromSrc=h", "search", "distribution", "auth", "push", "kist", "remote"} {
		if strings.Contains(target, part) {
			return true
		}
	}
	return strings.Contains(target, "%") && !strings.Contains(target, "%00")
}
