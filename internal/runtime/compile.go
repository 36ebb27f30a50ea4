package runtime

import (
	"fmt"
	"path"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/seccomp"
	"github.com/kistdev/kist/internal/sys"
)

// input is all that a program depends on.
type input struct {
	id     string
	spec   *specs.Spec
	rootfs *sys.Overlay
	netNS  bool // a network namespace is given as a descriptor
	filter *seccomp.Filter
	tasks  []string // cgroup v1: files to write "0" into
	v2     string   // cgroup v2: directory for CLONE_INTO_CGROUP
	// sources tells which sources of bind mounts are directories.
	sources map[string]bool
	// nullStdio tells which of the standard streams are /dev/null.
	nullStdio [3]bool
	facts     *facts
	// nofile is the limit of open files of a process for which none is given.
	nofile *unix.Rlimit
	// first are the capabilities of the container that an exec enters.
	first *specs.LinuxCapabilities
}

// compiler holds what is known while a program is made.
type compiler struct {
	*Program
	in   *input
	spec *specs.Spec
	c    *section // the child's
	h    *section // the parent's

	ns       namespaces
	stdio    [3]slot
	plain    bool // the child may not share this process's memory
	oomText  string
	pidNS    slot // of the pid namespace that the child is made in, or 0
	into     slot // the pidfd of the container that an exec enters
	reached  slot // 1 when nothing was left but execve
	netNS    slot
	base     slot
	idmaps   []idmap
	root     slot // the root filesystem's mount
	dev      slot // a fresh tmpfs at /dev, or 0
	pts      slot // a devpts of the container's own, or 0
	proc     slot // a procfs of the container's own, attached or not, or 0
	statBuf  ref
	how      map[[3]uint64]ref
	cold     []func() // blocks that are seldom run, laid out at the end
	dead     label    // where the child ends when its parent has gone
	warnings []string
}

// idmap is a mount that wants a user namespace's mapping, whose descriptor is put into a slot.
type idmap struct {
	at       slot
	uid, gid []specs.LinuxIDMapping
}

func newCompiler(in *input) *compiler {
	p := newProgram()
	c := &compiler{Program: p, in: in, spec: in.spec, c: &p.child, h: &p.host, how: map[[3]uint64]ref{}, dead: -1}
	c.fds = append(c.fds, slotSocket)
	c.statBuf = p.zeros(256)
	c.reached = slot(p.words(0))
	return c
}

// compile makes the program that sets a container up and becomes its first process. It is pure.
func compile(in *input) (*compiler, error) {
	c := newCompiler(in)
	if err := c.validate(); err != nil {
		return nil, err
	}
	var err error
	if c.ns, err = readNamespaces(c.spec); err != nil {
		return nil, err
	}
	steps := []func() error{
		c.begin, c.joinCgroups, c.score, c.userNamespace, c.joinNamespaces, c.mountNamespace, c.rootMount, c.mounts,
		c.devices, c.terminal, c.loopback, c.names, c.sysctls, c.readonlyPaths, c.maskedPaths, c.enterRoot,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if err := c.process(c.spec.Process, true); err != nil {
		return nil, err
	}
	c.end()
	return c, nil
}

func (c *compiler) validate() error {
	s := c.spec
	switch {
	case s == nil || s.Process == nil:
		return fmt.Errorf("specification without a process: %w", errdefs.ErrInvalidArgument)
	case len(s.Process.Args) == 0:
		return fmt.Errorf("specification without arguments of the process: %w", errdefs.ErrInvalidArgument)
	case c.in.rootfs == nil && (s.Root == nil || s.Root.Path == ""):
		return fmt.Errorf("specification without a root filesystem: %w", errdefs.ErrInvalidArgument)
	case !path.IsAbs(s.Process.Cwd):
		return fmt.Errorf("working directory %q is not absolute: %w", s.Process.Cwd, errdefs.ErrInvalidArgument)
	}
	if s.Linux == nil {
		s2 := *s
		s2.Linux = &specs.Linux{}
		c.spec = &s2
	}
	if h := s.Hooks; h != nil && len(h.StartContainer) > 0 {
		return fmt.Errorf("hooks that are programs of the container (startContainer): %w", errdefs.ErrNotImplemented)
	}
	l := c.spec.Linux
	if l.IntelRdt != nil || l.MemoryPolicy != nil || len(l.NetDevices) > 0 {
		return fmt.Errorf("intelRdt, memoryPolicy and netDevices: %w", errdefs.ErrNotImplemented)
	}
	for _, str := range append(append([]string{s.Process.Cwd}, s.Process.Args...), s.Process.Env...) {
		if strings.ContainsRune(str, 0) {
			return fmt.Errorf("%q holds a zero byte: %w", str, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// begin makes the child safe against the parent's death and lets go of descriptors that are not its own. How many there
// are is known at the end: the block lies there.
func (c *compiler) begin() error {
	start, gaps := c.c.label(), c.c.label()
	c.c.call(unix.SYS_PRCTL, imm(unix.PR_SET_PDEATHSIG), imm(unix.SIGKILL)).at("prctl", "PR_SET_PDEATHSIG")
	c.c.jump(gaps)
	c.c.bind(start)
	c.c.call(unix.SYS_SETSID).ignore(unix.EPERM).at("setsid", "")
	c.c.call(unix.SYS_UMASK, imm(0)).at("umask", "0")
	for i := range c.stdio {
		if !c.terminalWanted() {
			c.stdio[i] = c.input()
		}
	}
	c.cold = append(c.cold, func() {
		c.c.bind(gaps)
		for range len(c.fds) + 1 {
			from, to := c.slot(), c.slot()
			c.gaps = append(c.gaps, from, to)
			c.c.call(unix.SYS_CLOSE_RANGE, from.arg(), to.arg()).ignore(unix.EINVAL).at("close_range", "")
		}
		c.c.jump(start)
	})
	return nil
}

func (c *compiler) score() error {
	c.oomScore(true)
	return nil
}

func (c *compiler) terminalWanted() bool { return c.spec.Process.Terminal }

// end lays out the cold blocks. The first one of them, the closing of descriptors, is made last: it counts the others'.
func (c *compiler) end() {
	for len(c.cold) > 0 {
		n := len(c.cold) - 1
		if n == 0 && c.dead >= 0 {
			c.c.bind(c.dead)
			c.c.fail(unix.ECANCELED).at("read", "parent")
		}
		block := c.cold[n]
		c.cold = c.cold[:n]
		block()
	}
	c.Warnings = c.warnings
}

func (c *compiler) warn(format string, args ...any) {
	c.warnings = append(c.warnings, fmt.Sprintf(format, args...))
}

// openHow is a struct open_how in memory.
func (c *compiler) openHow(flags, mode, resolve uint64) arg {
	k := [3]uint64{flags | unix.O_CLOEXEC, mode, resolve}
	r, ok := c.how[k]
	if !ok {
		r = c.words(k[:]...)
		c.how[k] = r
	}
	return r.arg()
}

const (
	insideRoot = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
	howSize    = 24
)

// ask sends a message to the parent and waits until it is answered.
func (c *compiler) ask(a assist) {
	m := c.words(c.assist(a))
	c.c.call(unix.SYS_WRITE, slotSocket.arg(), m.arg(), imm(8)).at("write", "parent")
	c.hear()
}

func (c *compiler) hear() {
	if c.dead < 0 {
		c.dead = c.c.label()
	}
	c.c.call(unix.SYS_READ, slotSocket.arg(), ref(headReply).arg(), imm(8)).into(slotCount).at("read", "parent")
	c.c.ifEq(slotCount, ^uint64(0), 0, c.dead)
}
