package runtime

import (
	"encoding/binary"
	"fmt"
	"path"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"
)

// defaultPath is where programs are looked for without a PATH in the environment.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// process adds everything that belongs to the process rather than to the container, up to its execve. With park, the
// child waits for Start in between: what can fail because of the image comes after that.
func (c *compiler) process(p *specs.Process, park bool) error {
	caps := c.readCaps(p.Capabilities)
	if err := c.labels(p); err != nil {
		return err
	}
	if err := c.schedule(p); err != nil {
		return err
	}
	c.keyring()
	c.standardStreams(p)
	if err := c.rlimits(p); err != nil {
		return err
	}
	if err := c.personality(); err != nil {
		return err
	}
	c.resetSignals()
	c.dropBounding(caps)
	extra := c.user(p, caps)
	if p.NoNewPrivileges {
		c.c.call(unix.SYS_PRCTL, imm(unix.PR_SET_NO_NEW_PRIVS), imm(1), imm(0), imm(0), imm(0)).at("prctl", "PR_SET_NO_NEW_PRIVS")
	}
	if park {
		c.ask(assist{kind: assistReady})
	}
	umask := uint32(0o022)
	if p.User.Umask != nil {
		umask = *p.User.Umask
	}
	if park {
		c.newWorkdir(p)
	} else {
		c.workdir(p)
	}
	c.c.call(unix.SYS_UMASK, imm(umask)).at("umask", "")
	program := c.lookup(p)
	c.c.call(unix.SYS_PRCTL, imm(unix.PR_SET_PDEATHSIG), imm(0)).at("prctl", "PR_SET_PDEATHSIG")
	c.c.call(unix.SYS_CLOSE_RANGE, imm(3), imm(0xffffffff), imm(unix.CLOSE_RANGE_CLOEXEC)).at("close_range", "")
	c.seccomp()
	if caps != nil && extra != 0 {
		c.capset(caps, 0)
		c.ambient(caps)
	}
	c.c.call(unix.SYS_RT_SIGPROCMASK, imm(2), ref(headMaskNone).arg(), imm(0), imm(8)).at("sigprocmask", "")
	c.execve(p, program)
	return nil
}

// labels ask a security module to confine the program that is executed.
func (c *compiler) labels(p *specs.Process) error {
	if p.ApparmorProfile != "" {
		if !c.in.facts.AppArmor {
			return fmt.Errorf("AppArmor profile %q: the kernel has no AppArmor: %w", p.ApparmorProfile, errdefs.ErrNotImplemented)
		}
		name := "thread-self/attr/exec"
		if c.in.facts.AppArmorDir {
			name = "thread-self/attr/apparmor/exec"
		}
		c.writeProc(name, "exec "+p.ApparmorProfile, "apparmor")
	}
	if p.SelinuxLabel != "" {
		if !c.in.facts.SELinux {
			return fmt.Errorf("SELinux label %q: the kernel has no SELinux: %w", p.SelinuxLabel, errdefs.ErrNotImplemented)
		}
		c.writeProc("thread-self/attr/exec", p.SelinuxLabel, "selinux")
	}
	return nil
}

// keyring gives the container a session keyring of its own.
func (c *compiler) keyring() {
	name := c.str("_ses." + c.in.id).arg()
	c.c.call(unix.SYS_KEYCTL, imm(unix.KEYCTL_JOIN_SESSION_KEYRING), name).
		ignore(unix.ENOSYS, unix.EDQUOT, unix.EPERM).at("session keyring", c.in.id)
}

// standardStreams puts the standard streams into place and closes everything else but the line to the parent, which
// becomes descriptor 3.
func (c *compiler) standardStreams(p *specs.Process) {
	for i, s := range c.stdio {
		c.c.call(unix.SYS_DUP3, s.arg(), imm(i), imm(0)).at("dup", fmt.Sprintf("standard stream %d", i))
		if p.User.UID != 0 && (p.Terminal || !c.in.nullStdio[i]) {
			// So that the user can open /dev/stdout and its like. The group stays: a terminal's is tty.
			c.c.call(unix.SYS_FCHOWN, imm(i), imm(p.User.UID), imm(uint64(0xffffffff))).onAny(labelNext).
				at("chown", fmt.Sprintf("standard stream %d", i))
		}
	}
	if p.Terminal {
		c.c.call(unix.SYS_IOCTL, imm(0), imm(uint64(unix.TIOCSCTTY)), imm(0)).at("controlling terminal", "")
	}
	c.c.call(unix.SYS_DUP3, slotSocket.arg(), imm(3), imm(unix.O_CLOEXEC)).ignore(unix.EINVAL).at("dup", "parent")
	c.c.set(slotSocket, imm(3))
	c.c.call(unix.SYS_CLOSE_RANGE, imm(4), imm(0xffffffff), imm(0)).at("close_range", "")
}

var rlimitNames = []string{
	"RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS", "RLIMIT_NPROC",
	"RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE",
	"RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME",
}

func (c *compiler) rlimits(p *specs.Process) error {
	seen := map[string]bool{}
	for _, r := range p.Rlimits {
		n := -1
		for i, name := range rlimitNames {
			if name == r.Type {
				n = i
			}
		}
		if n < 0 || seen[r.Type] {
			return fmt.Errorf("rlimit %q is unknown or twice there: %w", r.Type, errdefs.ErrInvalidArgument)
		}
		seen[r.Type] = true
		if r.Soft > r.Hard {
			return fmt.Errorf("rlimit %s: soft limit %d above the hard limit %d: %w", r.Type, r.Soft, r.Hard,
				errdefs.ErrInvalidArgument)
		}
		soft, hard := r.Soft, r.Hard
		if most, ok := c.in.facts.hardLimit(n); ok && hard > most {
			hard, soft = most, min(soft, most)
			c.warn("%s lowered from %d to %d: this host does not allow more", r.Type, r.Hard, most)
		}
		c.c.call(unix.SYS_PRLIMIT64, imm(0), imm(n), c.words(soft, hard).arg(), imm(0)).at("set rlimit", r.Type)
	}
	if n := c.in.nofile; n != nil && !seen["RLIMIT_NOFILE"] {
		c.c.call(unix.SYS_PRLIMIT64, imm(0), imm(unix.RLIMIT_NOFILE), c.words(n.Cur, n.Max).arg(), imm(0)).
			at("set rlimit", "RLIMIT_NOFILE")
	}
	return nil
}

// resetSignals gives ignored signals their default action: clone cleared handlers only.
func (c *compiler) resetSignals() {
	if c.in.facts.Ignored == 0 {
		return
	}
	action := c.words(0, 0, 0, 0)
	for sig := 1; sig <= 64; sig++ {
		if c.in.facts.Ignored&(1<<(sig-1)) != 0 {
			c.c.call(unix.SYS_RT_SIGACTION, imm(sig), action.arg(), imm(0), imm(8)).at("sigaction", "")
		}
	}
}

// user becomes the user, and takes the capabilities. It returns those that are kept for the filter's installation,
// after which they must be given up.
func (c *compiler) user(p *specs.Process, caps *capSets) uint64 {
	u := p.User
	if caps != nil && u.UID != 0 {
		c.c.call(unix.SYS_PRCTL, imm(unix.PR_SET_KEEPCAPS), imm(1), imm(0), imm(0), imm(0)).at("prctl", "PR_SET_KEEPCAPS")
	}
	groups := make([]byte, 0, 4*len(u.AdditionalGids))
	for _, g := range u.AdditionalGids {
		groups = binary.LittleEndian.AppendUint32(groups, g)
	}
	c.c.call(unix.SYS_SETGROUPS, imm(len(u.AdditionalGids)), c.bytes(groups).arg()).at("setgroups", "")
	c.c.call(unix.SYS_SETRESGID, imm(u.GID), imm(u.GID), imm(u.GID)).at("setgid", fmt.Sprint(u.GID))
	c.c.call(unix.SYS_SETRESUID, imm(u.UID), imm(u.UID), imm(u.UID)).at("setuid", fmt.Sprint(u.UID))
	if u.UID != 0 {
		// Another user: the kernel forgot it.
		c.c.call(unix.SYS_PRCTL, imm(unix.PR_SET_PDEATHSIG), imm(unix.SIGKILL)).at("prctl", "PR_SET_PDEATHSIG")
	}
	if caps == nil {
		return 0
	}
	const sysAdmin = 1 << unix.CAP_SYS_ADMIN
	if c.in.filter != nil && !p.NoNewPrivileges && caps.effective&sysAdmin == 0 {
		c.capset(caps, sysAdmin)
		return sysAdmin
	}
	c.capset(caps, 0)
	c.ambient(caps)
	return 0
}

// workdir enters the working directory by a path without magic links, and makes sure that it is inside of the root: a
// descriptor of the host that slipped through would be a way out (CVE-2024-21626).
func (c *compiler) workdir(p *specs.Process) {
	dir := c.slot()
	c.openWorkdir(p, dir)
	c.enterWorkdir(p, dir)
}

// newWorkdir is workdir for a container's first process: a directory that is not there is made.
func (c *compiler) newWorkdir(p *specs.Process) {
	dir, missing, enter := c.slot(), c.c.label(), c.c.label()
	c.openWorkdir(p, dir).on(unix.ENOENT, missing)
	c.c.bind(enter)
	c.enterWorkdir(p, dir)
	c.cold = append(c.cold, func() {
		c.c.bind(missing)
		c.ask(assist{kind: assistCwd, path: path.Clean(p.Cwd)})
		c.openWorkdir(p, dir)
		c.c.jump(enter)
	})
}

func (c *compiler) openWorkdir(p *specs.Process, dir slot) *op {
	return c.c.openat2(imm(unix.AT_FDCWD), c.str(path.Clean(p.Cwd)).arg(),
		c.openHow(unix.O_PATH|unix.O_DIRECTORY, 0, unix.RESOLVE_NO_MAGICLINKS), imm(howSize)).into(dir).at("chdir", p.Cwd)
}

func (c *compiler) enterWorkdir(p *specs.Process, dir slot) {
	cwd, ok := c.zeros(4096), c.c.label()
	c.c.call(unix.SYS_FCHDIR, dir.arg()).at("chdir", p.Cwd)
	c.c.call(unix.SYS_GETCWD, cwd.arg(), imm(4096)).at("chdir", p.Cwd)
	c.c.ifEq(slot(cwd), 0xff, '/', ok)
	c.c.fail(unix.ENOENT).at("chdir", p.Cwd)
	c.c.bind(ok)
	c.c.call(unix.SYS_CLOSE, dir.arg()).at("close", "")
}

// lookup finds the program as execvp does, in the root, with the user's rights. The slot gets its path's address.
func (c *compiler) lookup(p *specs.Process) slot {
	found := c.slot()
	name := p.Args[0]
	if strings.Contains(name, "/") {
		c.c.set(found, c.str(name).arg())
		return found
	}
	paths := defaultPath
	for _, e := range p.Env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			paths = v
		}
	}
	errno, done := c.slot(), c.c.label()
	c.c.set(errno, imm(unix.ENOENT))
	for dir := range strings.SplitSeq(paths, ":") {
		if !path.IsAbs(dir) || name == "" {
			continue // the current directory is not searched
		}
		candidate := path.Join(dir, name)
		next, denied := c.c.label(), c.c.label()
		c.c.call(unix.SYS_FACCESSAT2, imm(unix.AT_FDCWD), c.str(candidate).arg(), imm(unix.X_OK), imm(unix.AT_EACCESS)).
			on(unix.EACCES, denied).onAny(next).at("lookup", name)
		c.c.call(unix.SYS_STATX, imm(unix.AT_FDCWD), c.str(candidate).arg(), imm(0), imm(unix.STATX_TYPE), c.statBuf.arg()).
			onAny(next).at("lookup", name)
		c.c.ifEq(slot(c.statBuf+statxMode), unix.S_IFMT, unix.S_IFDIR, next)
		c.c.set(found, c.str(candidate).arg())
		c.c.jump(done)
		c.c.bind(denied)
		c.c.set(errno, imm(unix.EACCES))
		c.c.bind(next)
	}
	denied := c.c.label()
	c.c.ifEq(errno, ^uint64(0), uint64(unix.EACCES), denied)
	c.c.fail(unix.ENOENT).at("lookup", name)
	c.c.bind(denied)
	c.c.fail(unix.EACCES).at("lookup", name)
	c.c.bind(done)
	return found
}

// seccomp installs the filter: as late as can be, for it holds for the calls that come after it too.
func (c *compiler) seccomp() {
	f := c.in.filter
	if f == nil || len(f.Program) == 0 {
		return
	}
	code := make([]byte, 0, 8*len(f.Program))
	for _, i := range f.Program {
		code = binary.LittleEndian.AppendUint16(code, i.Code)
		code = append(code, i.Jt, i.Jf)
		code = binary.LittleEndian.AppendUint32(code, i.K)
	}
	prog := c.words(uint64(len(f.Program)), 0)
	c.pointer(uint64(prog)+8, c.bytes(code))
	c.c.call(unix.SYS_SECCOMP, imm(unix.SECCOMP_SET_MODE_FILTER), imm(f.Flags), prog.arg()).at("install filter", "seccomp")
}

func (c *compiler) execve(p *specs.Process, program slot) {
	argv := make([]ref, len(p.Args))
	for i, a := range p.Args {
		argv[i] = c.str(a)
	}
	envp := make([]ref, len(p.Env))
	for i, e := range p.Env {
		envp[i] = c.str(e)
	}
	c.c.set(c.reached, imm(1))
	c.c.call(unix.SYS_EXECVE, program.arg(), c.addrs(argv...).arg(), c.addrs(envp...).arg()).at("execve", p.Args[0])
}
