package compose

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/moby/api/types/container"

	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/compose/model"
	"github.com/kistdev/kist/internal/compose/screen"
)

// start starts what was created, each service when what it depends on is as it wants it. Services that depend on one that failed
// are left alone; others go on.
func (s *stack) start(ctx context.Context, g *goal) error {
	waitsFor := func(name string) []string { return slices.Sorted(maps.Keys(g.p.Services[name].DependsOn)) }
	err := inOrder(ctx, g.order(), waitsFor, func(ctx context.Context, name string) error {
		w := g.wants[name]
		if w == nil {
			return nil
		}
		follows, err := s.dependencies(ctx, g, w)
		if err != nil {
			for _, r := range w.replicas {
				if r.now == nil || !r.now.running() || r.fresh {
					s.failed("Container", r.label(w), "not started")
				}
			}
			return fmt.Errorf("service %s is not started: %w", name, err)
		}
		return s.startService(ctx, g, w, follows)
	})
	return err
}

// dependencies waits for what a service depends on. follows is set when one was made anew that it is to be restarted with.
func (s *stack) dependencies(ctx context.Context, g *goal, w *want) (follows bool, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var errs []error
	for name, d := range w.service.DependsOn {
		other := g.wants[name]
		if other == nil || len(other.replicas) == 0 {
			continue
		}
		g.mu.Lock()
		follows = follows || d.Restart && other.changed
		g.mu.Unlock()
		if d.Condition == types.ServiceConditionStarted || d.Condition == "" || g.waitsForNobody {
			continue
		}
		s.showWaiting(w, name, d.Condition)
		wg.Go(func() {
			err := s.await(ctx, name, d.Condition, other.members())
			if err != nil && !d.Required {
				s.board.Note("warning: " + w.service.Name + " starts without " + name + ": " + firstLine(err))
				err = nil
			}
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	wg.Wait()
	return follows, errors.Join(errs...)
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// showWaiting says what a service's containers wait for.
func (s *stack) showWaiting(w *want, name, condition string) {
	words := map[string]string{types.ServiceConditionHealthy: "healthy", types.ServiceConditionCompletedSuccessfully: "done"}
	for _, r := range w.replicas {
		if r.now == nil || r.fresh || !r.now.running() {
			s.board.Set(screen.Row{Kind: "Container", Name: r.label(w), State: "waiting", Detail: "for " + name + " to be " + words[condition]})
		}
	}
}

func (w *want) members() []member {
	var out []member
	for _, r := range w.replicas {
		out = append(out, member{r.id, r.label(w)})
	}
	return out
}

// startService removes what is too much, and starts what does not run.
func (s *stack) startService(ctx context.Context, g *goal, w *want, follows bool) error {
	if g.rolls(w) {
		return s.roll(ctx, g, w)
	}
	if why := g.inTheWay(w); g.rolling && why != "" && slices.ContainsFunc(w.replicas, (*replica).rolls) {
		s.board.Note("warning: " + w.service.Name + " is replaced with an interruption: " + why)
	}
	if err := each(s, w.surplus, func(c *found) error { return s.endContainer(c, g.hooksOf(c), g.patience, true, true) }); err != nil {
		return err
	}
	idle := !slices.ContainsFunc(w.replicas, func(r *replica) bool { return r.now != nil && r.now.running() && !r.fresh })
	if idle && len(w.replicas) > 0 {
		if err := s.preStart(ctx, g, w); err != nil {
			return err
		}
	}
	return each(s, w.replicas, func(r *replica) error { return s.startReplica(g, w, r, follows) })
}

// startReplica lets a container run: the one there is, or a new one in its place.
func (s *stack) startReplica(g *goal, w *want, r *replica, follows bool) error {
	label := r.label(w)
	if r.fresh {
		if err := s.replace(g, w, r); err != nil {
			return err
		}
	}
	if name := model.ContainerName(g.p.Name, &w.service, r.number); r.now != nil && !r.fresh && r.name != name {
		// The one whose place it was made for has gone; only the name was left to do.
		if err := s.rename(r.id, name); err != nil {
			return fmt.Errorf("name %s: %w", label, err)
		}
	}
	if r.now != nil && !r.fresh && r.now.State == container.StatePaused {
		if err := s.unpause(r.id); err != nil {
			return err
		}
	}
	if r.now != nil && !r.fresh && r.now.running() {
		if !follows {
			s.board.Set(runningRow(label, r.now, screen.Unchanged))
			return nil
		}
		s.board.Set(screen.Row{Kind: "Container", Name: label, State: "restarting", Detail: "with what it depends on"})
		if err := s.stopContainer(r.id, g.patience); err != nil {
			s.failed("Container", label, "not stopped")
			return fmt.Errorf("restart %s: %w", label, err)
		}
	}
	s.set("Container", label, "starting", screen.Working)
	err := s.startContainer(r.id)
	if gone(err) && r.now != nil && !r.fresh {
		// The machine was started anew since: what a container had in memory is given to a new one.
		r.why = "its secrets were in memory"
		if err := errors.Join(s.createReplica(g, w, r), s.replace(g, w, r)); err != nil {
			return err
		}
		err = s.startContainer(r.id)
	}
	if err != nil {
		s.failed("Container", label, "not started")
		return fmt.Errorf("start %s: %w", label, err)
	}
	g.mu.Lock()
	w.changed = true
	g.mu.Unlock()
	if err := s.runHooks(w.service.PostStart, "post_start", label, r.id); err != nil {
		s.failed("Container", label, "post_start failed")
		return err
	}
	s.board.Set(screen.Row{Kind: "Container", Name: label, State: "started", Ports: portsOf(&w.service), Mark: screen.Done})
	return nil
}

// gone tells that a container cannot start because the secrets that the daemon held for it are no more.
func gone(err error) bool {
	var refused *client.Error
	return errors.As(err, &refused) && refused.Code == "secret-gone"
}

// runningRow is a container that runs already.
func runningRow(label string, c *found, mark screen.Mark) screen.Row {
	r := screen.Row{Kind: "Container", Name: label, State: "running", Ports: shortPorts(c.Ports), Mark: mark}
	if c.Health != nil && c.Health.Status != container.NoHealthcheck {
		r.Health = string(c.Health.Status)
	}
	return r
}

// portsOf are the published ports as the file has them.
func portsOf(svc *types.ServiceConfig) string {
	var out []string
	for _, p := range svc.Ports {
		if p.Published != "" {
			out = append(out, fmt.Sprintf("%s->%d", p.Published, p.Target))
		}
	}
	return strings.Join(out, " ")
}

// shortPorts are the published ports as the daemon has them, each once.
func shortPorts(ports []container.PortSummary) string {
	var out []string
	for _, p := range ports {
		if p.PublicPort == 0 {
			continue
		}
		if text := fmt.Sprintf("%d->%d", p.PublicPort, p.PrivatePort); !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// replace ends the container whose place a new one takes, and gives that one its name. If it is interrupted, the next up finds
// both, and goes on with the new one.
func (s *stack) replace(g *goal, w *want, r *replica) error {
	s.set("Container", r.label(w), "replacing", screen.Working)
	if err := s.endContainer(r.now, g.hooksOf(r.now), g.patience, false, g.freshVolumes); err != nil {
		return err
	}
	if err := s.rename(r.id, model.ContainerName(g.p.Name, &w.service, r.number)); err != nil {
		return fmt.Errorf("name %s: %w", r.label(w), err)
	}
	return nil
}

// hooksOf are what is to be done in a container before it is stopped.
func (g *goal) hooksOf(c *found) []types.ServiceHook { return g.p.Services[c.service()].PreStop }

// endContainer stops and removes a container.
func (s *stack) endContainer(c *found, hooks []types.ServiceHook, patience *int, show, volumes bool) error {
	label := c.short()
	if show && c.running() {
		s.set("Container", label, "stopping", screen.Working)
	} else if show {
		s.set("Container", label, "removing", screen.Working)
	}
	if c.running() {
		if err := s.stopNicely(c, hooks, patience); err != nil {
			s.failed("Container", label, "not stopped")
			return fmt.Errorf("stop %s: %w", label, err)
		}
	}
	if err := s.removeGone(c.ID, volumes); err != nil {
		s.failed("Container", label, "not removed")
		return fmt.Errorf("remove %s: %w", label, err)
	}
	if show {
		s.set("Container", label, "removed", screen.Done)
	}
	return nil
}
