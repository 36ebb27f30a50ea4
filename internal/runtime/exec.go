package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/cgroup"
	"github.com/kistdev/kist/internal/undo"
)

// ExecTarget is the running container that an exec joins.
type ExecTarget struct {
	PIDFD *os.File
	PID   int
	// Spec is the container's own specification: its seccomp profile, labels and cgroup are used.
	Spec *specs.Spec
	// Unconfined leaves the seccomp profile out (docker exec --privileged).
	Unconfined bool
}

// Exec runs a further process in a running container, and returns when its execve has happened. A program or working
// directory that cannot be used is a *StartError.
func (r *Runtime) Exec(ctx context.Context, t ExecTarget, p *specs.Process, io Stdio) (proc *Process, err error) {
	if t.Spec == nil || t.PIDFD == nil || p == nil || len(p.Args) == 0 || !path.IsAbs(p.Cwd) {
		return nil, fmt.Errorf("exec without a container, a program or an absolute working directory: %w",
			errdefs.ErrInvalidArgument)
	}
	defer goruntime.KeepAlive(&t)
	defer goruntime.KeepAlive(&io)
	spec := *t.Spec
	spec.Process, spec.Mounts = p, nil // what is mounted is there already; its source may be gone by now
	if spec.Linux == nil {
		spec.Linux = &specs.Linux{}
	}
	in := &input{id: strconv.Itoa(t.PID), spec: &spec, facts: r.facts}
	in.nofile = r.openFiles(p)
	if t.Spec.Process != nil {
		in.first = t.Spec.Process.Capabilities
	}
	if err := in.look(io); err != nil {
		return nil, err
	}
	var group *cgroup.Group
	if spec.Linux.CgroupsPath != "" {
		if group, err = cgroup.Load(spec.Linux.CgroupsPath); err != nil {
			return nil, fmt.Errorf("find cgroup %s: %w", spec.Linux.CgroupsPath, err)
		}
		in.tasks, in.v2 = group.JoinFiles()
	}
	if !t.Unconfined {
		if in.filter, err = compileFilter(&spec); err != nil {
			return nil, err
		}
	}
	proc, err = r.enter(ctx, in, t.PIDFD, io)
	if errors.Is(err, unix.EBUSY) && in.v2 != "" {
		// The container has made control groups of its own below: only these can have processes.
		if in.v2, err = unifiedGroup(t.PID, in.v2); err != nil {
			return nil, err
		}
		proc, err = r.enter(ctx, in, t.PIDFD, io)
	}
	return proc, err
}

// unifiedGroup is the control group that a process is in, if that is below dir.
func unifiedGroup(pid int, dir string) (string, error) {
	for _, l := range lines(fmt.Sprintf("/proc/%d/cgroup", pid)) {
		if p, ok := strings.CutPrefix(l, "0::"); ok {
			if group := path.Join("/sys/fs/cgroup", p); strings.HasPrefix(group, dir+"/") {
				return group, nil
			}
		}
	}
	return "", fmt.Errorf("control group of process %d below %s: %w", pid, dir, errdefs.ErrNotFound)
}

// enter makes the process.
func (r *Runtime) enter(ctx context.Context, in *input, target *os.File, io Stdio) (proc *Process, err error) {
	c, err := compileExec(in)
	if err != nil {
		return nil, err
	}
	if r.slow && c.ns.has(unix.CLONE_NEWUSER|unix.CLONE_NEWTIME) {
		return nil, fmt.Errorf("exec in a user or time namespace by the plain executor: %w", errdefs.ErrNotImplemented)
	}
	var u undo.Stack
	defer func() { err = errors.Join(err, u.Unwind(ctx)) }()
	ch, err := r.launch(c, io, target)
	if err != nil {
		return nil, fmt.Errorf("set up exec: %w", err)
	}
	u.Push("end process", ch.kill)
	if err := ch.goOn(ctx); err != nil {
		return nil, err
	}
	u.Release()
	ch.close()
	return &Process{PID: ch.pid, PIDFD: ch.pidfd, Console: ch.console, Warnings: c.Warnings}, nil
}

// compileExec makes the program that enters a container and becomes a further process of it. It is pure.
func compileExec(in *input) (*compiler, error) {
	c := newCompiler(in)
	var err error
	if c.ns, err = readNamespaces(c.spec); err != nil {
		return nil, err
	}
	if err := c.begin(); err != nil {
		return nil, err
	}
	a := c.spec.Process.ExecCPUAffinity
	if a != nil {
		if err := c.affinity(a.Initial); err != nil {
			return nil, err
		}
	}
	if err := c.joinCgroups(); err != nil {
		return nil, err
	}
	if a != nil {
		if err := c.affinity(a.Final); err != nil {
			return nil, err
		}
	}
	c.oomScore(false)
	c.enter()
	if c.terminalWanted() {
		c.containerTerminal()
	}
	if err := c.process(c.spec.Process, false); err != nil {
		return nil, err
	}
	c.end()
	return c, nil
}

// enter joins all namespaces of the container at once. Those that it shares with the host are no change.
func (c *compiler) enter() {
	c.into = c.input()
	flags := uint64(unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP)
	c.flags = unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PIDFD | unix.CLONE_CLEAR_SIGHAND | unix.CLONE_PARENT_SETTID
	if c.in.v2 != "" {
		c.flags |= unix.CLONE_INTO_CGROUP
	}
	if c.ns.has(unix.CLONE_NEWTIME) {
		// A process that shares its memory may not change its clocks.
		flags |= unix.CLONE_NEWTIME
		c.flags &^= unix.CLONE_VM
	}
	if c.ns.user() {
		flags |= unix.CLONE_NEWUSER
	}
	if c.ns.has(unix.CLONE_NEWPID) {
		c.pidNS = c.into
	}
	c.c.call(unix.SYS_SETNS, c.into.arg(), imm(flags)).at("join namespaces", "")
	if c.ns.user() {
		c.c.call(unix.SYS_SETRESGID, imm(0), imm(0), imm(0)).at("setresgid", "0")
		c.c.call(unix.SYS_SETRESUID, imm(0), imm(0), imm(0)).at("setresuid", "0")
	} else if caps := c.in.first; caps == nil || slices.Contains(caps.Bounding, "CAP_SYS_PTRACE") {
		// The container could look into the memory that the child shares with this process.
		c.plain = true
	}
}

// containerTerminal allocates a terminal in the devpts that the container has, if that is what lies there.
func (c *compiler) containerTerminal() {
	c.openTerminal(func(master slot) {
		how := c.openHow(unix.O_RDWR|unix.O_NOCTTY, 0, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
		c.c.call(unix.SYS_OPENAT2, imm(unix.AT_FDCWD), c.str("/dev/pts/ptmx").arg(), how, imm(howSize)).into(master).
			at("open terminal", "/dev/pts/ptmx")
		st, genuine := c.zeros(128), c.c.label()
		c.c.call(unix.SYS_FSTATFS, master.arg(), st.arg()).at("open terminal", "/dev/pts/ptmx")
		c.c.ifEq(slot(st), ^uint64(0), unix.DEVPTS_SUPER_MAGIC, genuine)
		c.c.fail(unix.ENOTTY).at("open terminal", "/dev/pts/ptmx")
		c.c.bind(genuine)
	})
}
