package keeper

import (
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/runtime"
	"github.com/kistdev/kist/internal/task"
)

// process is a container's first process, or an exec.
type process struct {
	k      *keeper
	c      *container
	execID string
	pid    int
	child  bool // of this keeper, which reaps it
	tty    bool
	// closesInput says that an attachment's end of input is the process's (docker's StdinOnce; execs).
	closesInput bool
	rt          *runtime.Process
	memory      bool // it has a limit of memory

	pidfd   *os.File
	console *os.File // nil without a terminal
	// The numbers of both: os.File's Fd would make them blocking.
	pidfdNumber, consoleNumber int
	input                      input
	out                        *stream // with a terminal: everything
	err                        *stream
	line                       line // in which both are read
	watch                      *watch

	// starting is held while the process is let go and its client is told; its exit, and the end of its input, are told
	// afterwards.
	starting sync.Mutex
	failed   bool // it never became the program: nobody wants to hear of its exit; guarded by starting

	mu       sync.Mutex // guards all below
	attached []*attachment
	exit     *task.Exit
	released bool // the pidfd and the terminal are closed
	oom      *oomWatch
	gone     bool          // no attachment joins any more
	sockets  []int         // in its network, for whoever listens on them
	over     bool          // it has ended: sockets are closed
	exited   chan struct{} // closed when exit is set, and on disk
}

// streams are the descriptors of a process that is not the keeper's yet, -1 for those that are not there.
type streams struct{ stdin, stdout, stderr int }

var noStreams = streams{-1, -1, -1}

func (s streams) close() {
	for _, fd := range []int{s.stdin, s.stdout, s.stderr} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// newProcess takes over a process and its descriptors. With a terminal, stdin says whether attachments may write to it.
func newProcess(c *container, execID string, rt *runtime.Process, s streams, stdin bool) *process {
	p := &process{
		k: c.k, c: c, execID: execID, pid: rt.PID, rt: rt, pidfd: rt.PIDFD, console: rt.Console,
		tty: rt.Console != nil, exited: make(chan struct{}), input: input{fd: s.stdin},
		pidfdNumber: int(rt.PIDFD.Fd()), consoleNumber: -1,
	}
	if p.tty {
		p.consoleNumber = int(p.console.Fd())
		_ = unix.SetNonblock(p.consoleNumber, true) // cannot fail on an open descriptor
		p.out = &stream{p: p, name: "stdout", fd: p.consoleNumber}
		if stdin {
			p.input.fd = p.consoleNumber
		}
		return p
	}
	if s.stdout >= 0 {
		p.out = &stream{p: p, name: "stdout", fd: s.stdout}
	}
	if s.stderr >= 0 {
		p.err = &stream{p: p, name: "stderr", fd: s.stderr}
	}
	return p
}

// listen begins to copy the process's output.
func (p *process) listen() error {
	for _, s := range []*stream{p.out, p.err} {
		if s == nil {
			continue
		}
		if err := s.open(); err != nil {
			return err
		}
	}
	return nil
}

// await begins to wait for the process's end.
func (p *process) await() error {
	w, err := p.k.poll.add(p.pidfdNumber, unix.EPOLLIN, func(uint32) { p.onExit() })
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.watch = w
	p.mu.Unlock()
	return nil
}

// output gives a piece of output to the log and the attachments. Both streams' copiers call it.
func (p *process) output(name string, b []byte) {
	if p.execID == "" {
		if log := p.c.writer(); log != nil {
			if err := log.Write(name, b, time.Now()); err != nil {
				p.c.logFailed(err)
			}
		}
	}
	p.mu.Lock()
	attached := p.attached // never changed in place
	p.mu.Unlock()
	for _, a := range attached {
		a.write(name, b)
	}
}

// join adds attachments. It returns false when the process has ended.
func (p *process) join(attachments ...*attachment) bool {
	if len(attachments) == 0 {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return false
	}
	p.attached = append(slices.Clip(p.attached), attachments...)
	for _, a := range attachments {
		a.bind(p)
	}
	return true
}

// leave removes an attachment.
func (p *process) leave(a *attachment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attached = slices.DeleteFunc(slices.Clone(p.attached), func(o *attachment) bool { return o == a })
}

// ended returns how the process ended, or nil.
func (p *process) ended() *task.Exit {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exit
}

// inputEnded is an attachment's end of input.
func (p *process) inputEnded() {
	if p.closesInput && !p.tty {
		p.closeInput()
	}
}

// closeInput closes the process's standard input, here and at the clients, who hold copies of the pipe.
func (p *process) closeInput() {
	if !p.input.close(!p.tty) {
		return
	}
	// A client that is being told of the process gets its copy first: told to close what it does not have yet, it would
	// keep the pipe open for ever.
	p.starting.Lock()
	defer p.starting.Unlock()
	p.k.mu.Lock()
	defer p.k.mu.Unlock()
	for s := range p.k.sessions {
		s.post(task.KindStdinClosed, task.Target{ID: p.c.id, ExecID: p.execID})
	}
}

// release closes the descriptors of a process that has ended. What others still write to its pipes gets EPIPE.
func (p *process) release() {
	p.releaseQuietly()
	p.out.close()
	p.err.close()
}

// releaseQuietly closes the descriptors of a process that has ended, but its output pipes only once nobody writes to them
// any more: what an exec left running in the background must not die of a full or broken pipe.
func (p *process) releaseQuietly() {
	p.mu.Lock()
	w, o := p.watch, p.oom
	p.watch, p.oom = nil, nil
	p.mu.Unlock()
	p.k.poll.remove(w)
	o.close()
	p.input.close(!p.tty)
	if p.tty {
		p.out.close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.console != nil {
		p.console.Close()
	}
	p.pidfd.Close()
	p.released = true
}

// held describes the process to a client, with duplicates of its descriptors: it may end at any moment.
func (p *process) held() (task.Held, []int) {
	h := task.Held{ID: p.c.id, ExecID: p.execID, PID: p.pid, State: task.Running, Terminal: p.tty, Child: p.child}
	var fds []int
	add := func(slot task.Slot, fd int) {
		if fd >= 0 {
			h.Slots, fds = append(h.Slots, slot), append(fds, fd)
		}
	}
	p.mu.Lock()
	h.Exit = p.exit
	if !p.released {
		add(task.SlotPIDFD, dup(p.pidfdNumber))
		if h.Exit == nil {
			add(task.SlotConsole, dup(p.consoleNumber))
		}
	}
	for _, fd := range p.sockets {
		add(task.SlotSocket, dup(fd))
	}
	p.mu.Unlock()
	if h.Exit != nil {
		h.State = task.Stopped
		return h, fds
	}
	if p.tty {
		h.Stdin = p.input.writable()
		return h, fds
	}
	add(task.SlotStdin, p.input.dup())
	add(task.SlotStdout, p.out.dup())
	add(task.SlotStderr, p.err.dup())
	return h, fds
}

// hold keeps sockets open until the process has ended.
func (p *process) hold(sockets []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		closeFDs(sockets)
		return
	}
	p.sockets = append(p.sockets, sockets...)
}

// letSocketsGo closes the sockets, so that the process's network can go.
func (p *process) letSocketsGo() {
	p.mu.Lock()
	defer p.mu.Unlock()
	closeFDs(p.sockets)
	p.sockets, p.over = nil, true
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
