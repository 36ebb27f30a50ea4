package keeper

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/cgroup"
	"github.com/kistdev/kist/internal/task"
)

// oomWatch tells of the kernel's kills for want of memory while the container runs. Only containers with a limit have
// one: two descriptors.
type oomWatch struct {
	p *process

	mu    sync.Mutex // guards all below
	told  uint64     // kills that were told of
	fd    int        // version 2: memory.events; version 1: an eventfd; -1 when closed
	watch *watch
	poll  uint32
}

// watchMemory begins to watch. That it cannot is no failure: the exit tells all the same.
func (p *process) watchMemory() {
	if !p.memory || p.rt.CgroupPath == "" {
		return
	}
	o := &oomWatch{p: p}
	if err := o.open(); err != nil {
		slog.Debug("keeper: watch memory", "container", p.c.id, "error", err)
		return
	}
	p.mu.Lock()
	closed := p.released
	if !closed {
		p.oom = o
	}
	p.mu.Unlock()
	if closed {
		o.close()
	}
}

func (o *oomWatch) open() error {
	g, err := cgroup.Load(o.p.rt.CgroupPath)
	if err != nil {
		return err
	}
	dir := g.Dir("memory")
	if dir == "" {
		return os.ErrNotExist
	}
	o.poll = unix.EPOLLPRI
	fd, err := unix.Open(filepath.Join(dir, "memory.events"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		o.poll = unix.EPOLLIN
		if fd, err = openNotice(dir); err != nil {
			return err
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fd = fd
	if o.watch, err = o.p.k.poll.add(fd, o.poll, o.ready); err != nil {
		unix.Close(fd)
		return err
	}
	return nil
}

// openNotice asks version 1 for notices through an eventfd.
func openNotice(dir string) (int, error) {
	control, err := unix.Open(filepath.Join(dir, "memory.oom_control"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(control)
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return -1, err
	}
	ask, err := os.OpenFile(filepath.Join(dir, "cgroup.event_control"), os.O_WRONLY, 0)
	if err == nil {
		_, err = fmt.Fprintf(ask, "%d %d", fd, control)
		ask.Close()
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// settleOOM is how long the kernel may take from the notice to the kill.
const settleOOM = 100 * time.Millisecond

func (o *oomWatch) ready(uint32) {
	for until := time.Now().Add(settleOOM); !o.check() && time.Now().Before(until); {
		time.Sleep(5 * time.Millisecond)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fd < 0 {
		return
	}
	var count [8]byte
	if o.poll == unix.EPOLLIN {
		_, _ = unix.Read(o.fd, count[:]) // takes the notice away
	} else {
		_, _ = unix.Pread(o.fd, count[:], 0) // what was read is news no longer
	}
	if o.p.ended() == nil {
		_ = o.p.k.poll.arm(o.watch, o.poll) // if it fails, the exit still tells
	}
}

// check tells of kills that it has not told of, and says whether there were any.
func (o *oomWatch) check() bool {
	g, err := cgroup.Load(o.p.rt.CgroupPath)
	if err != nil {
		return true // it is gone, and with it all that could be waited for
	}
	kills, _, _, err := g.OOMKills()
	if err != nil {
		return true
	}
	return o.tell(kills)
}

// tell emits one event for any number of new kills.
func (o *oomWatch) tell(kills uint64) bool {
	o.mu.Lock()
	news := kills > o.told
	o.told = max(kills, o.told)
	o.mu.Unlock()
	if news {
		o.p.k.emit(task.Event{Kind: task.EventOOM, ID: o.p.c.id})
	}
	return news
}

func (o *oomWatch) close() {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fd < 0 {
		return
	}
	o.p.k.poll.remove(o.watch)
	unix.Close(o.fd)
	o.fd = -1
}
