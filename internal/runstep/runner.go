package runstep

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"

	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/network"
	"github.com/kistdev/kist/internal/spec"
	"github.com/kistdev/kist/internal/task"
	"github.com/kistdev/kist/internal/treesum"
)

// Config is what a Runner is made of.
type Config struct {
	// Dir is below the data root: caches, and what writable mounts are given that is thrown away.
	Dir string
	// ExecDir is below the exec root: what runs.
	ExecDir string
	Layers  *layer.Store
	Tasks   *task.Client
	// Networks may be nil: then only steps without a network, or with the host's, can run.
	Networks *network.Manager
	// Trees are used to look into directories of the client.
	Trees *treesum.Cache
	// Host as hostinfo.Probe tells it.
	Host spec.Host
	// DeviceDirs hold the specifications of devices (CDI); none means that there are none.
	DeviceDirs []string
	// CgroupParent of all steps; a step's own goes before it.
	CgroupParent string
}

// tasks is what a Runner needs of task.Client.
type tasks interface {
	Claim(id string) (<-chan task.Exit, func())
	Run(ctx context.Context, r task.CreateRequest) (pid int, warnings []string, err error)
	Attach(ctx context.Context, r task.AttachRequest, stream *os.File) error
	Kill(ctx context.Context, id, execID string, sig syscall.Signal) error
	Delete(ctx context.Context, id string) error
}

// wiring is what a Runner needs of network.Manager.
type wiring interface {
	Join(ctx context.Context, r network.JoinRequest) (*network.Sandbox, error)
	Leave(ctx context.Context, containerID string) error
	Forget(containerID string)
	HostResolv() (network.ResolvConf, error)
	Gateway() netip.Addr
}

// Runner runs steps. It is safe for concurrent use.
type Runner struct {
	cfg      Config
	tasks    tasks
	networks wiring
	caches   *Caches
	files    *files
	placed   bool // mounts need a place on this kernel
}

// Open makes the directories, and takes away what an earlier process left of steps that it did not finish.
func Open(ctx context.Context, c Config) (*Runner, error) {
	var wires wiring
	if c.Networks != nil {
		wires = c.Networks
	}
	return open(ctx, c, c.Tasks, wires)
}

func open(ctx context.Context, c Config, tasks tasks, networks wiring) (_ *Runner, err error) {
	r := &Runner{cfg: c, tasks: tasks, networks: networks, placed: !copiesDetached()}
	for _, dir := range []string{r.stepsDir(), r.filesDir(), r.scratchDir()} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, fmt.Errorf("open step runner: %w", err)
		}
	}
	if err := r.sweep(ctx); err != nil {
		return nil, fmt.Errorf("clear up build steps that were cut off: %w", err)
	}
	r.files = newFiles(r.filesDir())
	if r.caches, err = openCaches(filepath.Join(c.Dir, "caches"), c.Layers); err != nil {
		return nil, err
	}
	return r, nil
}

// Caches are the directories of cache mounts.
func (r *Runner) Caches() *Caches { return r.caches }

func (r *Runner) stepsDir() string   { return filepath.Join(r.cfg.ExecDir, "steps") }
func (r *Runner) filesDir() string   { return filepath.Join(r.cfg.ExecDir, "files") }
func (r *Runner) scratchDir() string { return filepath.Join(r.cfg.Dir, "scratch") }

// sweep takes away what is left of steps that were cut off.
func (r *Runner) sweep(ctx context.Context) error {
	steps, err := os.ReadDir(r.stepsDir())
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range steps {
		err := r.tasks.Delete(ctx, s.Name())
		if r.networks != nil {
			err = errors.Join(err, r.networks.Leave(ctx, s.Name()))
			r.networks.Forget(s.Name())
		}
		errs = append(errs, err, r.removeRoots(ctx, s.Name()), removeStepDir(filepath.Join(r.stepsDir(), s.Name())))
	}
	left, err := os.ReadDir(r.scratchDir())
	errs = append(errs, err)
	for _, s := range left {
		errs = append(errs, os.RemoveAll(filepath.Join(r.scratchDir(), s.Name())))
	}
	return errors.Join(errs...)
}

// removeRoots removes the root filesystem of a step and those of its mounts.
func (r *Runner) removeRoots(ctx context.Context, id string) error {
	ids, err := r.cfg.Layers.Prepared()
	if err != nil {
		return err
	}
	var errs []error
	for _, root := range ids {
		if root == id || isMountRoot(root, id) {
			errs = append(errs, r.cfg.Layers.Remove(ctx, root))
		}
	}
	return errors.Join(errs...)
}
