// Package api serves Docker's Engine API, versions 1.24 to the newest: it decodes requests, evens out what old versions
// send and expect, calls the parts of the daemon that own the work, and turns error classes into statuses.
package api

import (
	"context"
	"io"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/engine"
	"github.com/kistdev/kist/internal/filter"
	wiring "github.com/kistdev/kist/internal/network"
)

// containers is what the API needs of the engine for containers.
type containers interface {
	Create(ctx context.Context, name string, platform *ocispec.Platform, r container.CreateRequest) (container.CreateResponse, error)
	CreateWithSecrets(ctx context.Context, name string, p *ocispec.Platform, r container.CreateRequest, s []engine.Secret) (container.CreateResponse, error)
	Start(ctx context.Context, name string) error
	Stop(ctx context.Context, name string, o engine.StopOptions) error
	Restart(ctx context.Context, name string, o engine.StopOptions) error
	Kill(ctx context.Context, name, signal string) error
	Pause(ctx context.Context, name string) error
	Unpause(ctx context.Context, name string) error
	// Wait returns at once; the channel delivers one response when the condition holds, or is closed when ctx ends.
	Wait(ctx context.Context, name string, c container.WaitCondition) (<-chan container.WaitResponse, error)
	Remove(ctx context.Context, name string, o engine.RemoveOptions) error
	Rename(ctx context.Context, name, newName string) error
	Update(ctx context.Context, name string, c container.UpdateConfig) (container.UpdateResponse, error)
	Inspect(ctx context.Context, name string, size bool) (*engine.Inspection, error)
	List(ctx context.Context, o engine.ListOptions) ([]engine.Summary, error)
	// Ending is nil where there is nothing to say.
	Ending(name string) *engine.Ending
	Logs(ctx context.Context, name string, o engine.LogsOptions) error
	Attach(ctx context.Context, name string, o engine.AttachOptions) error
	Resize(ctx context.Context, name string, rows, cols uint16) error
	Top(ctx context.Context, name, psArgs string) (container.TopResponse, error)
	Processes(ctx context.Context, names []string) (*engine.Processes, error)
	// Stats calls fn for each sample until ctx ends; once with stream false (oneShot skips the first, empty sample).
	Stats(ctx context.Context, name string, stream, oneShot bool, fn func(*container.StatsResponse) error) error
	Changes(ctx context.Context, name string) ([]container.FilesystemChange, error)
	StatPath(ctx context.Context, name, path string) (*container.PathStat, error)
	GetArchive(ctx context.Context, name, path string, begin func(*container.PathStat) (io.Writer, error)) error
	PutArchive(ctx context.Context, name, path string, tar io.Reader, o engine.PutArchiveOptions) error
	Export(ctx context.Context, name string, begin func() (io.Writer, error)) error
	Commit(ctx context.Context, name string, o engine.CommitOptions) (id string, err error)
	ConnectNetwork(ctx context.Context, network, name string, s *network.EndpointSettings) error
	DisconnectNetwork(ctx context.Context, network, name string, force bool) error
	// Publish changes the published ports.
	Publish(ctx context.Context, name string, add, remove network.PortMap) error
	Takeover(ctx context.Context, name, from string, t wiring.Takeover) error
	PruneContainers(ctx context.Context, f filter.Args) (container.PruneReport, error)

	ExecCreate(ctx context.Context, name string, r container.ExecCreateRequest) (id string, err error)
	ExecStart(ctx context.Context, id string, o engine.ExecStartOptions) error
	ExecResize(ctx context.Context, id string, rows, cols uint16) error
	ExecInspect(ctx context.Context, id string) (*container.ExecInspectResponse, error)
}

// host is what the API needs of the engine beside containers.
type host interface {
	Info(ctx context.Context) (*system.Info, error)
	DiskUsage(ctx context.Context) (*engine.DiskUsage, error)
}
