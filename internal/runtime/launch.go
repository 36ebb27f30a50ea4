package runtime

import (
	"math"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// launch runs the host section and makes the process. joined is the network namespace of a container, or the pidfd of
// that which an exec enters.
func (r *Runtime) launch(c *compiler, io Stdio, joined *os.File) (*child, error) {
	ch := &child{c: c, run: runFast, line: -1, far: -1, root: -1, done: make(chan struct{})}
	ok := false
	defer func() {
		if !ok {
			ch.drop()
		}
	}()
	var err error
	if ch.im, err = load(c.Program, c.plain || r.slow); err != nil {
		return nil, err
	}
	if c.plain || r.slow {
		c.plain = true
		ch.run = r.plain.run
	}
	if err := ch.inputs(r, io, joined); err != nil {
		return nil, err
	}
	for _, m := range c.idmaps {
		fd, err := r.maps.get(&r.plain, m.uid, m.gid)
		if err != nil {
			return nil, err
		}
		ch.owned = append(ch.owned, fd)
		ch.im.setWord(m.at, uint64(fd))
	}
	done := interpret(ch.im.mem, ch.im.host, unix.Syscall6)
	for _, s := range c.owned {
		if fd := ch.im.fd(s); fd >= 0 {
			ch.owned = append(ch.owned, fd)
		}
	}
	if !done {
		return nil, ch.im.failure(&c.host)
	}
	if len(c.hold) > 0 {
		ch.root = ch.im.fd(c.root)
	}
	for _, s := range c.hold {
		if fd, err := unix.FcntlInt(uintptr(ch.im.fd(s)), unix.F_DUPFD_CLOEXEC, 3); err == nil {
			ch.keep = append(ch.keep, fd)
		}
	}
	ch.closeOthers()
	go ch.execute()
	ok = true
	return ch, nil
}

// inputs fills the slots of the descriptors that the child is given. None may be below 3: these are the child's own.
func (ch *child) inputs(r *Runtime, io Stdio, joined *os.File) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	ch.line, ch.far = pair[0], pair[1]
	if err := ch.give(slotSocket, ch.far); err != nil {
		return err
	}
	if !ch.c.spec.Process.Terminal {
		for i, f := range []*os.File{io.Stdin, io.Stdout, io.Stderr} {
			if f == nil {
				f = r.null
			}
			if err := ch.give(ch.c.stdio[i], fdOf(f)); err != nil {
				return err
			}
		}
	}
	if ch.c.netNS != 0 {
		if err := ch.give(ch.c.netNS, fdOf(joined)); err != nil {
			return err
		}
	}
	if ch.c.into != 0 {
		if err := ch.give(ch.c.into, fdOf(joined)); err != nil {
			return err
		}
	}
	if ch.c.base != 0 {
		return ch.give(ch.c.base, fdOf(r.base))
	}
	return nil
}

func (ch *child) give(s slot, fd int) error {
	if fd < 3 {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return os.NewSyscallError("dup", err)
		}
		ch.owned = append(ch.owned, n)
		fd = n
	}
	ch.im.setWord(s, uint64(fd))
	return nil
}

func fdOf(f *os.File) int {
	// Not Fd: that changes the descriptor's mode.
	fd := -1
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(n uintptr) { fd = int(n) })
	}
	return fd
}

// closeOthers tells the child which descriptors to close: all but its own. Other containers' pipes must not live on in
// a child that waits for its start.
func (ch *child) closeOthers() {
	keep := make([]int, 0, len(ch.c.fds))
	for _, s := range ch.c.fds {
		if fd := ch.im.fd(s); fd >= 0 {
			keep = append(keep, fd)
		}
	}
	slices.Sort(keep)
	keep = slices.Compact(keep)
	from := 3
	gap := 0
	put := func(a, b int) {
		ch.im.setWord(ch.c.gaps[gap], uint64(a))
		ch.im.setWord(ch.c.gaps[gap+1], uint64(b))
		gap += 2
	}
	for _, fd := range keep {
		if fd > from {
			put(from, fd-1)
		}
		from = fd + 1
	}
	put(from, math.MaxUint32)
	for gap < len(ch.c.gaps) {
		put(1, 0) // an empty range, which the kernel refuses and the program ignores
	}
}

// drop gives back what launch made before there was a process.
func (ch *child) drop() {
	if ch.im == nil {
		return
	}
	ch.closeOwned()
	for _, fd := range append(ch.keep, ch.line, ch.far) {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	ch.im.free()
}
