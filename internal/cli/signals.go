package cli

import (
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/client"
)

// forcedEnd is how many interrupts end the command when the container does not.
const forcedEnd = 3

// proxySignals passes this process's signals on to a container until the returned function is called. It does not wait
// until the signals are caught, which takes as long as a request, and never lets them go again, which takes nearly as long:
// the command ends after it.
func (a *app) proxySignals(cl *client.Client, id string) (stop func()) {
	return a.proxySignalsTo(func(s syscall.Signal) { passSignal(cl, id, s) })
}

// proxySignalsTo is proxySignals to whatever passes them on.
func (a *app) proxySignalsTo(pass func(syscall.Signal)) (stop func()) {
	ch := make(chan os.Signal, 64)
	done := make(chan struct{})
	go func() {
		signal.Notify(ch, usualSignals...)
		rest := time.After(restDelay)
		interrupts := 0
		for {
			select {
			case <-done:
				return
			case <-rest:
				signal.Notify(ch)
				// These are about this process, not about what it runs.
				signal.Reset(ownSignals...)
			case sig := <-ch:
				if sig == syscall.SIGINT || sig == syscall.SIGTERM {
					interrupts++
				}
				if _, terminal := terminalFD(a.err); terminal && interrupts == forcedEnd-1 {
					a.note("the container has not ended yet; ctrl-c once more leaves it running (process 1 must handle the signal itself, or --init)")
				}
				if interrupts >= forcedEnd {
					a.note(fmt.Sprintf("got %d SIGTERM/SIGINTs, forcefully exiting", forcedEnd))
					os.Exit(1)
				}
				if s, ok := sig.(syscall.Signal); ok && !slices.Contains(ownSignals, sig) {
					pass(s)
				}
			}
		}
	}()
	return func() { close(done) }
}

// usualSignals are caught at once. Every signal costs the Go runtime two switches between threads, in all more than a start
// of a container, so the unusual ones wait until it is over.
var usualSignals = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTSTP, syscall.SIGCONT,
}

// restDelay is longer than most starts.
const restDelay = 50 * time.Millisecond

var ownSignals = []os.Signal{syscall.SIGCHLD, syscall.SIGPIPE, syscall.SIGURG, syscall.SIGWINCH, syscall.SIGTTIN, syscall.SIGTTOU}

func passSignal(cl *client.Client, id string, s syscall.Signal) {
	name := unix.SignalName(s)
	if name == "" {
		name = strconv.Itoa(int(s))
	}
	// The container may have ended; then its exit is on the way.
	_ = cl.Call(client.Post(containerPath(id, "/kill"), url.Values{"signal": {name}}))
}

// resizeRetries is how often the first size is sent: a terminal that is only now being made refuses it.
const resizeRetries = 5

// followSize sends the terminal's size whenever it changes; with first also now.
func (a *app) followSize(first bool, send func(rows, cols int) error) (stop func()) {
	if _, _, ok := terminalSize(a.out); !ok {
		return func() {}
	}
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGWINCH)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if first {
			a.firstSize(send, done)
		}
		for {
			select {
			case <-ch:
				if rows, cols, ok := terminalSize(a.out); ok {
					// The next change tries again.
					_ = send(rows, cols)
				}
			case <-done:
				return
			}
		}
	})
	return func() {
		signal.Stop(ch)
		close(done)
		wg.Wait()
	}
}

func (a *app) firstSize(send func(rows, cols int) error, done <-chan struct{}) {
	for i := range resizeRetries {
		rows, cols, ok := terminalSize(a.out)
		if !ok || send(rows, cols) == nil {
			return
		}
		select {
		case <-time.After(time.Duration(i+1) * 10 * time.Millisecond):
		case <-done:
			return
		}
	}
}
