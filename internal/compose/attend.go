package compose

import (
	"encoding/json"
	"errors"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/kistdev/kist/internal/cli"
	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/compose/screen"
)

// attendance is an `up` that stays: it shows what containers print until all have ended or somebody wants them to.
type attendance struct {
	s       *stack
	g       *goal
	f       *upFlags
	printer *screen.Printer
	show    func(service string) bool

	mu       sync.Mutex // guards what is below
	followed map[string]bool
	names    map[string]string // of containers that count, by id
	codes    map[string]int    // how they ended
	over     bool              // its end is not news any more
	ended    chan ending
	idle     chan struct{}
}

// ending is a container's end that ends all.
type ending struct {
	service string
	code    int
}

// attend shows what the goal's containers print. ctrl-c stops them; a second one kills them.
func (s *stack) attend(g *goal, f *upFlags, targets []string) (err error) {
	a := &attendance{
		s: s, g: g, f: f, followed: map[string]bool{}, names: map[string]string{}, codes: map[string]int{},
		ended: make(chan ending, 1), idle: make(chan struct{}, 1),
		printer: &screen.Printer{
			Out: os.Stdout, Err: os.Stderr, Coloured: s.tool.Coloured() && !f.noColour && s.ansi != "never", Bare: f.noPrefix, Clean: s.cleaner(),
		},
	}
	a.show = s.shown(g, f, targets)
	// A table that is drawn over and lines that go by do not go together.
	if s.board, err = s.boardFor("plain"); err != nil {
		return err
	}
	interrupted := make(chan os.Signal, 2)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(interrupted)
	go a.listen()
	a.followAll()
	if f.watch {
		go func() {
			if err := s.watch(g, targets, false); err != nil {
				s.tool.Complain(err)
			}
		}()
	}
	var last ending
	select {
	case <-interrupted:
		return a.stop(interrupted, true, ending{})
	case <-a.idleUnlessWatching():
		return nil
	case last = <-a.ended:
	}
	return a.stop(interrupted, false, last)
}

// idleUnlessWatching is when all containers have ended; who watches stays.
func (a *attendance) idleUnlessWatching() <-chan struct{} {
	if a.f.watch {
		return nil
	}
	return a.idle
}

// cleaner makes lines safe for a terminal; elsewhere they stay as they are.
func (s *stack) cleaner() func(string) string {
	if _, out := s.tool.Terminals(); out {
		return cli.Clean
	}
	return nil
}

// shown says whose output is shown.
func (s *stack) shown(g *goal, f *upFlags, targets []string) func(string) bool {
	return func(name string) bool {
		svc := g.p.Services[name]
		switch {
		case slices.Contains(f.noAttach, name):
			return false
		case len(f.attach) > 0:
			return slices.Contains(f.attach, name)
		case svc.Attach != nil && !*svc.Attach:
			return false
		case len(targets) > 0 && !f.attachDependencies:
			return slices.Contains(targets, name)
		}
		return true
	}
}

// followAll begins to follow the containers of the goal.
func (a *attendance) followAll() {
	for _, w := range a.g.wants {
		for _, r := range w.replicas {
			a.printer.Expect(r.label(w))
		}
	}
	for _, name := range a.g.order() {
		w := a.g.wants[name]
		if w == nil {
			continue
		}
		for _, r := range w.replicas {
			a.follow(name, r.id, r.label(w), a.since(r, w))
		}
	}
	a.rest()
}

// since is from when on a container's output is shown: from its start, by the daemon's clock, if that was this command's doing;
// the zero time is from now on.
func (a *attendance) since(r *replica, w *want) time.Time {
	if r.now == nil || r.fresh {
		return everything
	}
	if r.now.running() && !w.changed {
		return time.Time{}
	}
	in, err := a.s.inspect(r.id)
	if err != nil {
		return time.Time{} // It has gone; who follows it will see.
	}
	return output(in)
}

// follow shows a container's output until it has ended for good.
func (a *attendance) follow(service, id, label string, since time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.followed[id] {
		return
	}
	a.followed[id] = true
	a.names[id] = service
	src := a.printer.Source(label)
	shown := a.show(service)
	go func() {
		code, ok := a.s.followContainer(id, since, src, shown, a.f.timestamps)
		if ok {
			a.end(service, id, src, code)
		}
	}()
}

// end takes note of a container's end.
func (a *attendance) end(service, id string, src *screen.Source, code int) {
	a.mu.Lock()
	over := a.over
	delete(a.followed, id)
	a.codes[id] = code
	a.mu.Unlock()
	src.Flush()
	if a.show(service) || code != 0 && !over {
		src.Say("ended with exit code " + itoa(code))
	}
	if over {
		return
	}
	if a.f.abortOnExit || a.f.abortOnFailure && code != 0 {
		select {
		case a.ended <- ending{service, code}:
		default:
		}
	}
	a.rest()
}

// rest tells when nobody is followed any more.
func (a *attendance) rest() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.followed) > 0 {
		return
	}
	select {
	case a.idle <- struct{}{}:
	default:
	}
}

// listen follows containers that somebody starts later: scaled, rebuilt, started anew.
func (a *attendance) listen() {
	q, err := a.s.ofProject()
	if err != nil {
		return
	}
	resp, err := a.s.cl.Do(client.Get("/events", q))
	if err != nil {
		return // What runs is followed all the same.
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var m events.Message
		if dec.Decode(&m) != nil {
			return
		}
		if m.Type != events.ContainerEventType || m.Action != events.ActionStart {
			continue
		}
		service := m.Actor.Attributes["com.docker.compose.service"]
		if _, ours := a.g.p.Services[service]; !ours || m.Actor.Attributes["com.docker.compose.oneoff"] == "True" {
			continue
		}
		label := service + "-" + m.Actor.Attributes["com.docker.compose.container-number"]
		a.follow(service, m.Actor.ID, label, time.Unix(0, m.TimeNano))
	}
}

// stop stops all containers: nicely, or at once when asked a second time.
func (a *attendance) stop(interrupted <-chan os.Signal, byPerson bool, last ending) error {
	a.mu.Lock()
	a.over = true
	a.mu.Unlock()
	if byPerson {
		a.s.tool.Note("\nStopping; ctrl-c again kills.")
	}
	done := make(chan error, 1)
	go func() { done <- a.s.stopServices(a.g.order(), a.g.patience) }()
	var err error
	select {
	case err = <-done:
	case <-interrupted:
		a.s.board.Close()
		err = errors.Join(a.s.killServices(a.g.order(), "KILL"), <-done)
	}
	a.s.board.Close()
	if err != nil {
		return err
	}
	if byPerson {
		return cli.ExitWith(130)
	}
	return a.code(last)
}

// code is how `up` ends when a container's end ended it.
func (a *attendance) code(last ending) error {
	if from := a.f.exitCodeFrom; from != "" && from != last.service {
		deadline := time.Now().Add(2 * time.Second)
		for time.Now().Before(deadline) {
			a.mu.Lock()
			for id, service := range a.names {
				if code, ok := a.codes[id]; ok && service == from {
					last = ending{service, code}
				}
			}
			a.mu.Unlock()
			if last.service == from {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	if last.code != 0 {
		return cli.ExitWith(last.code)
	}
	return nil
}
