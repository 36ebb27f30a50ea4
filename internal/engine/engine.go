// Package engine is a container's life: it orders the steps of the packages below it and owns none of them.
//
// # The life of a container
//
// Create resolves the image, merges its configuration with the user's, prepares the root filesystem and the volumes, and
// writes one row. Start wires the network and has the keeper make the process; everything it puts up is on an undo stack
// until the row says running. The exit comes from the keeper as an event, whatever caused it: ended takes down what
// start put up, and either lets the supervisor start the container again, or leaves it exited, or removes it. Every verb
// that changes a container's phase holds its op lock, and none holds it while a process is on its way to its end.
//
// # What is kept
//
// A container has two rows: what it was asked to be, which hardly ever changes, and its state. Memory holds the truth,
// the rows follow before anybody is told; an exit is told at once, because the keeper's record of it is on disk until
// the row is. Open compares rows with the keeper and repairs what a crash left: nothing else recovers.
//
// # Health and restarts
//
// A container that has a health check and a restart policy other than "no" is restarted when it becomes unhealthy, unless
// its label dev.kist.restart-unhealthy, or the daemon's environment variable KIST_RESTART_UNHEALTHY, says false.
package engine

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/event"
	"github.com/kistdev/kist/internal/hostinfo"
	img "github.com/kistdev/kist/internal/image"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/network"
	"github.com/kistdev/kist/internal/spec"
	"github.com/kistdev/kist/internal/task"
	vol "github.com/kistdev/kist/internal/volume"
)

// Config is what the engine is made of and told.
type Config struct {
	DataRoot, ExecRoot string
	// Version of kist, for info.
	Version string
	// CgroupParent and CgroupDriver ("cgroupfs" or "systemd"; empty: the one that fits this host).
	CgroupParent, CgroupDriver string
	// InitPath is the program bound at /sbin/docker-init for --init.
	InitPath string
	// LogDriver and LogOpts are the defaults for containers that name none.
	LogDriver string
	LogOpts   map[string]string
	// Insecure, Mirrors and Labels are told by info.
	Insecure, Mirrors []string
	Labels            []string
	// DeviceDirs hold the specifications of devices (CDI); none means that there are none.
	DeviceDirs []string

	Tasks    *task.Client
	Images   *img.Store
	Layers   *layer.Store
	Networks *network.Manager
	Volumes  *vol.Store
	Events   *event.Bus
}

// Engine owns the containers' rows and the order of their steps. It is safe for concurrent use.
type Engine struct {
	cfg        Config
	tasks      tasks
	networks   wiring
	host       spec.Host
	facts      *hostinfo.Facts
	index      *index
	ledger     *ledger
	execs      *execs
	departed   *departed
	began      time.Time // what ended before this, nobody saw
	background *background
	// identity of this engine, the same after a restart.
	identity string
	// restartUnhealthy is the daemon's default for containers without the label.
	restartUnhealthy bool
}

// Open reads the rows, asks the keeper what runs, repairs what a crash left, and applies restart policies.
func Open(ctx context.Context, c Config) (*Engine, error) {
	return open(ctx, c, c.Tasks, c.Networks)
}

func open(ctx context.Context, c Config, tasks tasks, networks wiring) (*Engine, error) {
	facts, err := hostinfo.Probe()
	if err != nil {
		return nil, err
	}
	rows, err := openLedger(c.DataRoot, c.ExecRoot, bootID())
	if err != nil {
		return nil, err
	}
	e := &Engine{
		cfg: c, tasks: tasks, networks: networks, host: facts.Host, facts: facts, index: newIndex(), ledger: rows, execs: newExecs(), departed: newDeparted(), began: time.Now(),
		background: newBackground(), restartUnhealthy: os.Getenv("KIST_RESTART_UNHEALTHY") != "false",
	}
	if e.identity, err = engineID(c.DataRoot); err != nil {
		return nil, errors.Join(err, rows.close())
	}
	if c.CgroupDriver != "" {
		e.host.SystemdCgroup = c.CgroupDriver == "systemd"
		facts.Host.SystemdCgroup = e.host.SystemdCgroup
	}
	if c.Volumes != nil {
		c.Volumes.NameOf = e.nameOf
	}
	if err := errors.Join(rows.recall(e.departed), e.restore(ctx), e.clearSecrets()); err != nil {
		e.background.close()
		return nil, errors.Join(err, rows.close())
	}
	e.background.run(e.follow)
	return e, nil
}

// Close stops the engine's goroutines; containers go on.
func (e *Engine) Close() error {
	e.background.close()
	return e.ledger.close()
}

// nameOf is the name of a container, empty if it is not known.
func (e *Engine) nameOf(id string) string {
	c := e.index.get(id)
	if c == nil {
		return ""
	}
	d, _ := c.look()
	return d.Name
}

// ImagesInUse tells which containers use an image, by its id. It may be called before Open has returned, on the nil
// Engine: then nothing is known yet.
func (e *Engine) ImagesInUse() map[digest.Digest][]string {
	used := map[digest.Digest][]string{}
	if e == nil {
		return used
	}
	for _, c := range e.index.all() {
		d, _ := c.look()
		used[d.Image] = append(used[d.Image], c.id)
	}
	return used
}
