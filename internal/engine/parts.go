package engine

import (
	"context"
	"os"
	"syscall"

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
}

// wiring is what the engine needs of network.Manager.
type wiring interface {
	Join(ctx context.Context, r network.JoinRequest) (*network.Sandbox, error)
	Leave(ctx context.Context, containerID string) error
	Restore(ctx context.Context, running []network.Held) error
	HostResolv() (network.ResolvConf, error)
	Warnings() []string
}
