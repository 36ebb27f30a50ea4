package engine

import (
	"context"
	"os"
	"syscall"

	dockernet "github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/network"
	"github.com/kistdev/kist/internal/task"
)

// tasks is what the engine needs of task.Client.
type tasks interface {
	Events() <-chan task.Event
	List(ctx context.Context) ([]task.Status, error)
	Run(ctx context.Context, r task.CreateRequest) (pid int, warnings []string, err error)
	Exec(ctx context.Context, r task.ExecRequest) (pid int, err error)
	Attach(ctx context.Context, r task.AttachRequest, stream *os.File) error
	Kill(ctx context.Context, id, execID string, sig syscall.Signal) error
	Resize(ctx context.Context, id, execID string, rows, cols uint16) error
	Delete(ctx context.Context, id string) error
	DeleteExec(ctx context.Context, id, execID string) error
	PIDFD(id string) (*os.File, bool)
	Sockets(id string) ([]int, error)
	Hold(ctx context.Context, id string, sockets []int) error
}

// wiring is what the engine needs of network.Manager.
type wiring interface {
	Join(ctx context.Context, r network.JoinRequest) (*network.Sandbox, error)
	Leave(ctx context.Context, containerID string) error
	Restore(ctx context.Context, running []network.Held) error
	HostResolv() (network.ResolvConf, error)
	// Resolve finds a network's full name by a name or an id; Check says whether a container could join it.
	Resolve(name string) (string, error)
	Check(name string, s *dockernet.EndpointSettings) error
	// Kind is the driver of the network with that id.
	Kind(id string) string
	ID(name string) string
	Connect(ctx context.Context, containerID, name string, s *dockernet.EndpointSettings, process *os.File) (string, *dockernet.EndpointSettings, error)
	Disconnect(ctx context.Context, containerID, name string, process *os.File) (string, *dockernet.EndpointSettings, error)
	Publish(ctx context.Context, containerID string, add, remove dockernet.PortMap) (dockernet.PortMap, error)
	Takeover(ctx context.Context, fromID, toID string, t network.Takeover) (from, to network.Taken, err error)
	Rename(containerID, name string)
	Forget(containerID string)
	Resolv(containerID string) (r network.ResolvConf, served bool, sockets []int, err error)
	Warnings() []string
}
