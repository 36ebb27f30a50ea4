package move

import (
	"context"
	"io"
	"path/filepath"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/engine"
	"github.com/kistdev/kist/internal/image"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/volume"
)

// containers is what is needed of the engine.
type containers interface {
	Inspect(ctx context.Context, name string, size bool) (*engine.Inspection, error)
	CreateFilled(ctx context.Context, name string, platform *ocispec.Platform, r docker.CreateRequest, changes io.Reader) (docker.CreateResponse, error)
	Start(ctx context.Context, name string) error
	Stop(ctx context.Context, name string, o engine.StopOptions) error
	Remove(ctx context.Context, name string, o engine.RemoveOptions) error
}

// networks is what is needed of the networks.
type networks interface {
	Inspect(ctx context.Context, name string) (*network.Inspect, error)
	Create(ctx context.Context, r network.CreateRequest) (network.CreateResponse, error)
	Remove(ctx context.Context, name string) error
}

// Mover moves things between this daemon's stores and others'.
type Mover struct {
	Images     *image.Store
	Layers     *layer.Store
	Volumes    *volume.Store
	Containers containers
	Networks   networks
	// Dir is the mover's own: what was received of moves under way, and what pieces layers have.
	Dir string
	// Store names the store, for nobody to move things to where they are: its directory on this machine, and the machine.
	Store string
	// Version of kist.
	Version string
}

func (m *Mover) packs() string    { return filepath.Join(m.Dir, "received") }
func (m *Mover) listings() string { return filepath.Join(m.Dir, "pieces") }
