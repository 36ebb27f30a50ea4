// Package keeper is the server side of package task: the one small process that is the parent of all containers. It
// holds their pidfds, standard streams and terminals, copies output to logs and attachments, and writes exit records. It
// does little, so it has no reason to die; when it is killed all the same, the containers go on and the client hands
// everything to its successor.
//
// # No goroutine for what is idle
//
// All pipes, terminal masters and pidfds are in one epoll instance, one-shot. When one becomes ready, a goroutine with a
// pooled buffer serves it and arms it again, so an idle container costs its descriptors and some hundred bytes. Only
// attachments, which are few, have a goroutine each.
package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	goruntime "runtime"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/runtime"
	"github.com/kistdev/kist/internal/task"
)

// lingerEmpty is how long a keeper without containers and without a client stays.
const lingerEmpty = 10 * time.Second

// runner is what the keeper needs of package runtime.
type runner interface {
	Create(ctx context.Context, b runtime.Bundle, io runtime.Stdio) (*runtime.Process, error)
	Start(ctx context.Context, p *runtime.Process) error
	Exec(ctx context.Context, t runtime.ExecTarget, p *specs.Process, io runtime.Stdio) (*runtime.Process, error)
	Delete(ctx context.Context, p *runtime.Process) error
}

// keeper is the process's state.
type keeper struct {
	dir      string
	rt       runner
	poll     *poller
	records  records
	profiles profiles
	recent   recent
	linger   time.Duration

	// making is held for reading while runtime makes processes, whose children sweep must not reap.
	making    sync.RWMutex
	sweepWant atomic.Bool

	mu         sync.Mutex // guards all below
	containers map[string]*container
	children   map[int]*process // by pid: processes that the pidfd path reaps
	removing   map[string]chan struct{}
	sessions   map[*session]struct{}
	settled    bool // what was on disk has been dealt with
	idle       *time.Timer
	idleEnd    func()
	trim       *time.Timer
	shutting   bool

	wg sync.WaitGroup // goroutines that must end before Run returns
}

// Main is the keeper's process: it serves dir until it holds nothing and nobody wants it, and returns the exit code.
func Main(dir string) int {
	goruntime.GOMAXPROCS(min(goruntime.NumCPU(), 2))
	debug.SetGCPercent(garbageIdle)
	// Containers are children of this process: they must not read or trace it, whatever uid they run with.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		slog.Warn("keeper: clear dumpable flag", "error", err)
	}
	// Orphans of containers without a pid namespace come to the keeper, which reaps them.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		slog.Warn("keeper: become subreaper", "error", err)
	}
	rt, err := runtime.New(runtime.Options{})
	if err == nil {
		err = run(context.Background(), dir, rt, lingerEmpty)
	}
	if err != nil {
		slog.Error("keeper ends", "error", err)
		return 1
	}
	return 0
}

// run serves dir until ctx ends or the keeper has had nothing to do for its linger time.
func run(ctx context.Context, dir string, rt runner, linger time.Duration) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("keeper directory: %w", err)
	}
	k := &keeper{
		dir: dir, rt: rt, records: records{dir: filepath.Join(dir, "tasks")}, linger: linger,
		containers: map[string]*container{}, children: map[int]*process{},
		removing: map[string]chan struct{}{}, sessions: map[*session]struct{}{},
	}
	k.profiles.dir = filepath.Join(dir, "profiles")
	for _, d := range []string{k.records.dir, k.profiles.dir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("keeper directory: %w", err)
		}
	}
	l, err := inherit(dir)
	if err != nil {
		return err
	}
	defer l.close()
	if err := k.records.dropHalves(); err != nil { // nobody else writes any more: the lock is held
		return err
	}
	if k.poll, err = newPoller(); err != nil {
		return err
	}
	defer k.poll.close()

	// Signals are caught, not ignored: what is ignored would be ignored in the containers too.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGCHLD)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k.idleEnd = cancel
	k.armIdle()
	k.trimSoon()
	k.wg.Add(1)
	go k.heed(ctx, signals)
	stop := context.AfterFunc(ctx, l.close)
	defer stop()
	err = k.accept(l)
	cancel()
	k.shut()
	return err
}

// heed acts on signals: the keeper ends by SIGTERM only while it holds nothing.
func (k *keeper) heed(ctx context.Context, signals <-chan os.Signal) {
	defer k.wg.Done()
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-signals:
			if s == unix.SIGCHLD {
				k.sweepWant.Store(true)
				k.sweep()
				continue
			}
			k.mu.Lock()
			if k.emptyLocked() {
				k.idleEnd()
			}
			k.mu.Unlock()
		}
	}
}

// accept takes connections until the listener is closed.
func (k *keeper) accept(l *listener) error {
	for {
		fd, err := l.accept()
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("keeper: accept: %w", err)
		}
		conn, err := task.NewConn(fd)
		if err != nil {
			slog.Warn("keeper: connection", "error", err)
			continue
		}
		s := &session{k: k, conn: conn, hands: newHands(&k.wg)}
		k.mu.Lock()
		k.sessions[s] = struct{}{}
		k.disarmIdleLocked()
		k.mu.Unlock()
		k.wg.Add(1)
		go func() {
			defer k.wg.Done()
			s.serve()
			k.mu.Lock()
			delete(k.sessions, s)
			k.mu.Unlock()
			k.armIdle()
		}()
	}
}

// shut closes the connections and waits for the keeper's goroutines.
func (k *keeper) shut() {
	k.mu.Lock()
	for s := range k.sessions {
		s.conn.Close()
	}
	k.disarmIdleLocked()
	k.shutting = true
	if k.trim != nil {
		k.trim.Stop()
	}
	k.mu.Unlock()
	k.wg.Wait()
}

// emptyLocked says whether nothing would be lost if the keeper ended.
func (k *keeper) emptyLocked() bool {
	if len(k.removing) > 0 {
		return false
	}
	for _, c := range k.containers {
		if c.process() != nil || c.busy {
			return false
		}
	}
	return true
}

// armIdle lets the keeper end after a while if it holds nothing and nobody is connected.
func (k *keeper) armIdle() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.disarmIdleLocked()
	if len(k.sessions) > 0 || !k.emptyLocked() {
		return
	}
	k.idle = time.AfterFunc(k.linger, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if len(k.sessions) == 0 && k.emptyLocked() {
			k.idleEnd()
		}
	})
}

func (k *keeper) disarmIdleLocked() {
	if k.idle != nil {
		k.idle.Stop()
		k.idle = nil
	}
}

// container returns what is known by the id, or nil.
func (k *keeper) container(id string) *container {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.containers[id]
}

// emit tells all clients of an event.
func (k *keeper) emit(e task.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for s := range k.sessions {
		s.post(task.KindEvent, e)
	}
}
