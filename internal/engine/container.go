package engine

import (
	"context"
	"sync"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// definition is what a container was asked to be. It is never changed in place: rename and update replace it, so that a
// reader who has got it needs no lock.
type definition struct {
	ID      string
	Name    string // without docker's leading slash
	Created time.Time
	// Config is merged with the image's; HostConfig has its defaults filled in.
	Config     *docker.Config
	HostConfig *docker.HostConfig
	Image      digest.Digest
	Manifest   *ocispec.Descriptor `json:",omitempty"`
	Platform   string              // operating system
	Arch       string
	Mounts     []mountPoint `json:",omitempty"`
	// Secrets are without their values, which are in memory only.
	Secrets []Secret `json:",omitempty"`
	// Endpoints are the user's wishes for the networks, by name.
	Endpoints map[string]*network.EndpointSettings `json:",omitempty"`
	// Bound and Exposed are in the row only, in place of many ports of HostConfig and Config.
	Bound, Exposed []span `json:",omitempty"`
}

// command is the program and its arguments, as inspect shows them.
func (d *definition) command() (path string, args []string) {
	all := append(append([]string{}, d.Config.Entrypoint...), d.Config.Cmd...)
	if len(all) == 0 {
		return "", []string{}
	}
	return all[0], all[1:]
}

// state is what changes while a container lives. It is a row of its own because it is written often and is small.
type state struct {
	Phase     phase
	PID       int    `json:",omitempty"`
	ExitCode  int    `json:",omitempty"`
	Error     string `json:",omitempty"`
	OOMKilled bool   `json:",omitempty"`
	// End says why the last run ended, where the exit code does not.
	End        *Ending   `json:",omitempty"`
	StartedAt  time.Time `json:",omitzero"`
	FinishedAt time.Time `json:",omitzero"`
	Restarts   int       `json:",omitempty"`
	// Stopped says that a person stopped it: restart policies leave it alone.
	Stopped bool `json:",omitempty"`
	// Cgroup is what cgroup.Load takes.
	Cgroup   string                               `json:",omitempty"`
	Networks map[string]*network.EndpointSettings `json:",omitempty"`
	Ports    network.PortMap                      `json:",omitempty"`
	Spans    []span                               `json:",omitempty"` // in the row only, in place of many Ports
	Health   docker.HealthStatus                  `json:",omitempty"`
}

// signal is something that happens once.
type signal struct {
	done chan struct{}
	code int // Set before done is closed.
}

func newSignal() *signal { return &signal{done: make(chan struct{})} }

func (s *signal) fire(code int) {
	s.code = code
	close(s.done)
}

// lock serialises the verbs that change a container's phase. Unlike a mutex it can be waited for with a context; it is
// never held while waiting for a process to end.
type lock chan struct{}

func (l lock) acquire(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l lock) release() { <-l }

// container is one row and what belongs to it in memory.
type container struct {
	id string
	op lock // held by the verb that is changing the phase

	mu  sync.Mutex // guards what follows; held for moments only
	def *definition
	st  state
	// over fires when the container stops for good, not when it is about to be restarted. It is replaced by a new one.
	over *signal
	// gone fires when the container is removed.
	gone *signal
	// behind is closed when what the last run left behind is cleared away; nil when there is nothing.
	behind  chan struct{}
	backoff backoff
	probe   *probe // nil without a health check, or while it does not run
	// unmade says that the container has no row yet: nobody has been told of it, and a crash leaves nothing of it.
	unmade bool
	// intent is what was wanted of the run when it was sent a signal.
	intent intent
	// keep holds back the removal of an AutoRemove container at its next end, because it is to be restarted.
	keep bool
	// unhealthy says that the engine ended the run for its failing health checks.
	unhealthy bool
}

func newContainer(def *definition, st state) *container {
	return &container{
		id: def.ID, op: make(lock, 1), def: def, st: st,
		over: newSignal(), gone: newSignal(),
	}
}

// hold finds a container and locks it for a verb, which calls release at its end.
func (e *Engine) hold(ctx context.Context, name string) (c *container, release func(), err error) {
	if c, err = e.index.find(name); err != nil {
		return nil, nil, err
	}
	if err := c.op.acquire(ctx); err != nil {
		return nil, nil, err
	}
	return c, c.op.release, nil
}

// look returns the definition and a copy of the state, as they are now.
func (c *container) look() (*definition, state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.def, c.st
}

// change applies fn to the state and returns the result.
func (c *container) change(fn func(*state)) state {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn(&c.st)
	return c.st
}

// enter moves the container to another phase and applies fn to the state.
func (c *container) enter(next phase, fn func(*state)) (state, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := c.st.Phase.to(next)
	if err != nil {
		return c.st, err
	}
	c.st.Phase = p
	if fn != nil {
		fn(&c.st)
	}
	return c.st, nil
}

// finish fires over and puts a new one in its place.
func (c *container) finish(code int) {
	c.mu.Lock()
	old := c.over
	c.over = newSignal()
	c.mu.Unlock()
	old.fire(code)
}

// signals returns the ends of the present run and of the container.
func (c *container) signals() (over, gone *signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over, c.gone
}

// settle waits until what the last run left behind is cleared away.
func (c *container) settle(ctx context.Context) error {
	c.mu.Lock()
	behind := c.behind
	c.mu.Unlock()
	if behind == nil {
		return nil
	}
	select {
	case <-behind:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// passing says that the container is on its way into the world or out of it: who is told that it is there may look in vain.
func (c *container) passing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unmade || c.st.Phase == removing
}

// takeKeep returns keep and clears it.
func (c *container) takeKeep() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.keep
	c.keep = false
	return k
}

// takeUnhealthy returns unhealthy and clears it.
func (c *container) takeUnhealthy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.unhealthy
	c.unhealthy = false
	return u
}
