package cli

import (
	"errors"
	"io"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/kistdev/kist/internal/client"
)

// watcher waits for a container's end in the background, from one daemon to the next: a container outlives the daemon that
// was asked first.
type watcher struct {
	cl *client.Client
	id string
	// again is the condition that the next daemon is asked for.
	again string

	ready    chan struct{} // closed when the first daemon watches, or refuses
	refused  error         // set before ready is closed
	answered chan struct{} // closed when the first daemon has answered, or has gone
	urgent   chan struct{} // closed when nothing but the end is waited for
	end      chan outcome
}

// outcome is how a container ended.
type outcome struct {
	code int
	err  error
}

// watch asks for a container's exit before it is started.
func watch(cl *client.Client, id string, removed bool) *watcher {
	if removed {
		return watchFor(cl, id, "removed", "removed")
	}
	return watchFor(cl, id, "next-exit", "not-running")
}

func watchFor(cl *client.Client, id, condition, again string) *watcher {
	w := &watcher{
		cl: cl, id: id, again: again, ready: make(chan struct{}), answered: make(chan struct{}), urgent: make(chan struct{}),
		end: make(chan outcome, 1),
	}
	go w.run(condition)
	return w
}

func (w *watcher) run(condition string) {
	first, err := startWait(w.cl, w.id, condition)
	w.refused = err
	close(w.ready)
	if err != nil {
		return
	}
	code, err := first.result()
	close(w.answered)
	if daemonGone(err) {
		code, err = w.insist()
	}
	w.end <- outcome{code, err}
}

// begun returns when the daemon watches.
func (w *watcher) begun() error {
	<-w.ready
	return w.refused
}

// result returns the exit code. It is called when the output has ended, and so, most likely, the container.
func (w *watcher) result() (int, error) {
	if err := w.begun(); err != nil {
		return exitUsage, err
	}
	close(w.urgent)
	o := <-w.end
	return o.code, o.err
}

// once waits for the answer of the daemon that was asked, and of no other.
func (w *watcher) once() {
	if w.begun() == nil {
		<-w.answered
	}
}

const (
	// insistEvery is how often the next daemon is looked for, and insistAtMost how rarely while the container goes on.
	insistEvery, insistAtMost = 50 * time.Millisecond, time.Second
	// insistPassively is how often somebody else may start it before this command does; insistTries is when it gives up.
	insistPassively, insistTries = 20, 400
)

// insist asks the next daemon how the container has ended.
func (w *watcher) insist() (code int, err error) {
	err = w.ask(w.urgent, func(cl *client.Client) error {
		next, err := startWait(cl, w.id, w.again)
		if err == nil {
			code, err = next.result()
		}
		return err
	})
	return code, err
}

// start starts the container.
func (w *watcher) start() error {
	err := w.cl.Call(client.Post(containerPath(w.id, "/start"), nil))
	if answer := (*client.Error)(nil); err == nil || errors.As(err, &answer) || !daemonGone(err) || !w.startedAnyway() {
		return err
	}
	return nil
}

// startedAnyway tells, of a start whose answer was lost with the daemon, whether the container was started: the next daemon
// knows.
func (w *watcher) startedAnyway() bool {
	started := false
	err := w.ask(closed(), func(cl *client.Client) error {
		info, err := client.CallJSON[container.InspectResponse](cl, client.Get(containerPath(w.id, "/json"), nil))
		if err == nil && info.State != nil {
			started = info.State.Status != container.StateCreated
		}
		return err
	})
	// What is removed when it exits may have run and be gone; its result tells.
	return started || errdefs.IsNotFound(err) && w.again == "removed"
}

func closed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// ask has one daemon after the other answer a question until one does. As long as it is not urgent, it is somebody else's
// business to start one.
func (w *watcher) ask(urgent <-chan struct{}, question func(*client.Client) error) error {
	passive := w.cl.Passive()
	pause, tries := insistEvery, 0
	for {
		cl := passive
		if tries > insistPassively {
			cl = w.cl
		}
		err := question(cl)
		if !daemonGone(err) || tries > insistTries {
			return err
		}
		select {
		case <-urgent:
			tries++
			time.Sleep(insistEvery)
			continue
		default:
		}
		select {
		case <-urgent:
		case <-time.After(pause):
			pause = min(2*pause, insistAtMost)
		}
	}
}

// daemonGone tells that a daemon has ended with its answer, or is not there.
func daemonGone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errdefs.IsUnavailable(err)
}
