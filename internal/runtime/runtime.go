package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	goruntime "runtime"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/cgroup"
	"github.com/kistdev/kist/internal/sys"
	"github.com/kistdev/kist/internal/undo"
)

// Bundle is what a container is made from.
type Bundle struct {
	ID   string
	Spec *specs.Spec
	// Rootfs is mounted by the new process in its own mount namespace; nil: Spec.Root.Path is an existing directory.
	Rootfs *sys.Overlay
	// NetNS, when not nil, is the network namespace to join.
	NetNS *os.File
}

// Stdio is the process's end of its standard streams; nil is /dev/null. With Spec.Process.Terminal all are nil and
// Process.Console is the master side of a terminal allocated in the container's own devpts.
type Stdio struct {
	Stdin, Stdout, Stderr *os.File
}

// Options configure a Runtime. The zero value chooses the best executor of this machine.
type Options struct {
	// Executor is "fast", "plain" or empty.
	Executor string
}

// Runtime makes processes. It is safe for concurrent use.
type Runtime struct {
	facts *facts
	base  *os.File
	null  *os.File
	slow  bool // the plain executor for all
	plain plain
	maps  idmapCache
	files nofile
}

// executor runs a program's child section in a new process. It returns when the process exists and the caller's copy
// of its end of the line may be closed: for the fast executor that is after execve.
type executor func(im *image, given []slot) (pid int, err error)

// New probes the kernel once.
func New(o Options) (*Runtime, error) {
	r := &Runtime{facts: readFacts(), slow: true}
	switch o.Executor {
	case "", "fast":
		if haveFast {
			r.slow = false
		} else if o.Executor == "fast" {
			return nil, fmt.Errorf("the fast executor is not in this build: %w", errdefs.ErrNotImplemented)
		}
	case "plain":
	default:
		return nil, fmt.Errorf("executor %q: %w", o.Executor, errdefs.ErrInvalidArgument)
	}
	// The children that share this process's memory must not be open to the containers that they enter (CVE-2016-9962).
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, os.NewSyscallError("prctl PR_SET_DUMPABLE", err)
	}
	var err error
	if r.null, err = os.OpenFile("/dev/null", os.O_RDWR, 0); err != nil {
		return nil, err
	}
	if r.base, err = newBase(); err == nil {
		r.facts.Base = true
	} else if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOSYS) {
		r.null.Close()
		return nil, err
	}
	return r, nil
}

// Close gives back what New opened. Processes live on.
func (r *Runtime) Close() error {
	r.maps.close()
	r.plain.close()
	if r.base != nil {
		r.base.Close()
	}
	return r.null.Close()
}

// Process is a process in a container: its first one, or an exec. It is the caller's to wait for as soon as it has been
// returned, even when Start fails.
type Process struct {
	PID      int
	PIDFD    *os.File
	Console  *os.File // terminal master, or nil
	Warnings []string
	// CgroupPath tells where its cgroup is, for Delete and the cgroup package.
	CgroupPath string

	mu    sync.Mutex // guards what follows
	child *child     // until it has started
	hold  []int      // descriptors that make the end of the container cheap
	hooks *hooks
}

// Create makes the container's first process, set up and paused before execve.
func (r *Runtime) Create(ctx context.Context, b Bundle, io Stdio) (p *Process, err error) {
	if b.Spec == nil || b.Spec.Process == nil {
		return nil, fmt.Errorf("specification without a process: %w", errdefs.ErrInvalidArgument)
	}
	defer goruntime.KeepAlive(&b)
	defer goruntime.KeepAlive(&io)
	var u undo.Stack
	defer func() { err = errors.Join(err, u.Unwind(ctx)) }()
	in := &input{id: b.ID, spec: b.Spec, rootfs: b.Rootfs, netNS: b.NetNS != nil, facts: r.facts}
	if err := in.look(io); err != nil {
		return nil, err
	}
	in.nofile = r.openFiles(b.Spec.Process)
	var group *cgroup.Group
	var warnings []string
	if in.filter, err = compileFilter(b.Spec); err != nil {
		return nil, err
	}
	if l := b.Spec.Linux; l != nil && l.CgroupsPath != "" {
		if group, warnings, err = cgroup.Create(ctx, l.CgroupsPath, l.Resources); err != nil {
			return nil, fmt.Errorf("create cgroup %s: %w", l.CgroupsPath, err)
		}
		u.Push("remove cgroup", group.Remove)
		in.tasks, in.v2 = group.JoinFiles()
	}
	c, err := compile(in)
	if err != nil {
		return nil, err
	}
	ch, err := r.launch(c, io, b.NetNS)
	if err != nil {
		return nil, fmt.Errorf("set up container: %w", err)
	}
	u.Push("end process", ch.kill)
	if err := ch.setUp(ctx); err != nil {
		return nil, err
	}
	p = &Process{
		PID: ch.pid, PIDFD: ch.pidfd, Console: ch.console, Warnings: append(warnings, c.Warnings...),
		child: ch, hold: ch.takeHold(), hooks: newHooks(&b, ch.pid),
	}
	if group != nil {
		p.CgroupPath = group.Path()
		group.Settle()
	}
	if err := p.hooks.created(ctx); err != nil {
		p.release()
		return nil, err
	}
	u.Release()
	return p, nil
}

// openFiles is the limit of open files for a process whose specification says none.
func (r *Runtime) openFiles(p *specs.Process) *unix.Rlimit {
	for _, l := range p.Rlimits {
		if l.Type == "RLIMIT_NOFILE" {
			return nil
		}
	}
	var now unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &now) != nil {
		return nil
	}
	if n := r.files.original(); n < now.Cur {
		now.Cur = n
	}
	return &now
}

// look finds out what compile may not look at itself.
func (in *input) look(io Stdio) error {
	in.sources = map[string]bool{}
	for i := range in.spec.Mounts {
		m := &in.spec.Mounts[i]
		o, err := parseMountOptions(m.Options)
		if err != nil {
			return fmt.Errorf("mount %s: %w", m.Destination, err)
		}
		if m.Type != "bind" && !o.bind {
			continue
		}
		var st unix.Stat_t
		if err := unix.Stat(m.Source, &st); err != nil {
			return fmt.Errorf("mount %s: source %s: %w", m.Destination, m.Source, err)
		}
		in.sources[m.Source] = st.Mode&unix.S_IFMT == unix.S_IFDIR
	}
	for i, f := range []*os.File{io.Stdin, io.Stdout, io.Stderr} {
		in.nullStdio[i] = f == nil || isNull(f)
	}
	return nil
}

func isNull(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(fdOf(f), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
}

// Start lets a created process go and returns when execve has happened. A program or working directory that cannot be
// used is a *StartError.
func (r *Runtime) Start(ctx context.Context, p *Process) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.child == nil {
		return fmt.Errorf("process %d is not waiting to be started: %w", p.PID, errdefs.ErrFailedPrecondition)
	}
	ch := p.child
	p.child = nil
	defer ch.close()
	if err := ch.start(ctx); err != nil {
		return err
	}
	if err := p.hooks.started(ctx); err != nil {
		p.Warnings = append(p.Warnings, err.Error())
	}
	return nil
}

// StartError is a step that failed: execve, chdir, or looking for the program, when it comes from Start or Exec.
type StartError struct {
	Step string
	Path string
	Err  error
}

func (e *StartError) Error() string {
	if e.Path == "" {
		return e.Step + ": " + e.Err.Error()
	}
	return e.Step + " " + e.Path + ": " + e.Err.Error()
}

// Unwrap returns the errno.
func (e *StartError) Unwrap() error { return e.Err }

// Delete removes what Create made outside the process: the cgroup, with all processes in it killed. A Process of which
// only PID and CgroupPath are known will do. PIDFD and Console stay the caller's.
func (r *Runtime) Delete(ctx context.Context, p *Process) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.child != nil {
		p.child.hangUp()
		p.child.close()
		p.child = nil
	}
	p.release()
	var errs []error
	if p.CgroupPath != "" {
		errs = append(errs, removeGroup(ctx, p.CgroupPath))
	}
	errs = append(errs, p.hooks.stopped(ctx))
	p.hooks = nil
	return errors.Join(errs...)
}

// Unmount takes the process's mounts apart that are kept until Delete, once all processes of its namespaces have ended: for
// who needs the writable layer's directories before.
func (p *Process) Unmount() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.release()
}

// release closes the descriptors that are held for the container.
func (p *Process) release() {
	for _, fd := range p.hold {
		unix.Close(fd)
	}
	p.hold = nil
}

func removeGroup(ctx context.Context, path string) error {
	g, err := cgroup.Load(path)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find cgroup %s: %w", path, err)
	}
	if err := g.Remove(ctx); err != nil {
		return fmt.Errorf("remove cgroup %s: %w", path, err)
	}
	return nil
}
