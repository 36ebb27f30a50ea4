package compose

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/compose/convert"
	"github.com/kistdev/kist/internal/compose/model"
	"github.com/kistdev/kist/internal/compose/screen"
	"github.com/kistdev/kist/internal/fault"
)

// A rolling update replaces one container after the other, each beside the old one:
//
//	new                                old
//	 | created without names, ports     | answers
//	 | started                          |
//	 | healthy, or runs for a while     |
//	 |<== ports and names, in one step =|
//	 | gets the old one's name          | gets another one
//	 | answers                          | finishes what it has begun
//	 |                                  | stopped, removed
//
// Until the step in the middle everything can be taken back, and is when the new one does not get well.

// labelBeside marks containers that a rolling update has made: one that still has its first name was interrupted.
const labelBeside = "io.kist.compose.rolling"

// How long a container without a health check must run until it is taken for well, and how long the old one is left to finish
// what it has begun, where deploy.update_config does not say.
const (
	monitorTime = 2 * time.Second
	drainTime   = time.Second
)

// rolls tells whether a service is replaced without an interruption.
func (g *goal) rolls(w *want) bool {
	return g.rolling && g.inTheWay(w) == "" && slices.ContainsFunc(w.replicas, (*replica).rolls)
}

// rolls tells whether a container is to be replaced that answers now.
func (r *replica) rolls() bool { return r.why != "" && r.now != nil && r.now.running() }

// inTheWay says why a service cannot run twice at the same time; empty if it can.
func (g *goal) inTheWay(w *want) string {
	svc := &w.service
	switch mode := svc.NetworkMode; {
	case mode == "host" || mode == "none" || strings.HasPrefix(mode, types.ContainerPrefix) || strings.HasPrefix(mode, types.ServicePrefix):
		return "it has no network of its own (network_mode: " + mode + ")"
	case svc.MacAddress != "":
		return "it has a fixed MAC address"
	}
	for key, n := range svc.Networks {
		if n != nil && (n.Ipv4Address != "" || n.Ipv6Address != "" || n.MacAddress != "") {
			return "it has a fixed address on network " + key
		}
	}
	for name, other := range g.p.Services {
		if slices.Contains(convert.Shared(&other), svc.Name) {
			return "service " + name + " lives in its container"
		}
	}
	return ""
}

// checkRolling refuses what only kist's own daemon can do.
func (s *stack) checkRolling() error {
	if !s.ownDaemon() {
		return &fault.Error{
			Code: "compose-no-rolling", What: "this daemon cannot update without an interruption", Cause: "ports and names move between containers only in kist's own daemon",
			Try: "kist compose up -d, without --rolling", Class: errdefs.ErrNotImplemented,
		}
	}
	return nil
}

// takeover is what a container is to have in place of another one.
type takeover struct {
	From    string
	Ports   network.PortMap
	Aliases map[string][]string
}

// roll replaces a service's containers one after the other.
func (s *stack) roll(ctx context.Context, g *goal, w *want) error {
	// What is too many does not answer, or is one more than is wanted: what answers was chosen before it.
	if err := each(s, w.surplus, func(c *found) error { return s.endContainer(c, g.hooksOf(c), g.patience, true, true) }); err != nil {
		return err
	}
	for _, r := range w.replicas {
		if !r.rolls() {
			if r.why != "" || r.now == nil {
				if err := s.createReplica(g, w, r); err != nil {
					return err
				}
			}
			if err := s.startReplica(g, w, r, false); err != nil {
				return err
			}
			continue
		}
		if err := s.rollOne(ctx, g, w, r); err != nil {
			return err
		}
	}
	return nil
}

// rollOne replaces one container.
func (s *stack) rollOne(ctx context.Context, g *goal, w *want, r *replica) error {
	label, name := r.label(w), model.ContainerName(g.p.Name, &w.service, r.number)
	s.board.Set(screen.Row{Kind: "Container", Name: label, State: "updating", Detail: because(r.why)})
	in := &convert.Input{
		Project: g.p, Service: w.service, Number: r.number, Links: g.links(&w.service), ReadFile: os.ReadFile, Beside: true,
		Labels:       types.Labels{model.LabelHash: w.hash, model.LabelReplaces: r.now.ID, labelBeside: r.now.ID},
		ImageVolumes: g.images[w.service.Name].volumes,
	}
	if !g.freshVolumes {
		in.Kept = r.now.Mounts
	}
	fresh := r.now.ID[:12] + "_" + name
	id, err := s.make(in, fresh)
	if err != nil {
		return s.keepOld(label, "", fmt.Errorf("service %s: %w", w.service.Name, err))
	}
	if err := s.raise(ctx, w, id, label); err != nil {
		return s.keepOld(label, id, err)
	}
	published, err := convert.Ports(&w.service)
	if err != nil {
		return s.keepOld(label, id, err)
	}
	_, fixed := convert.Fixed(published)
	t := takeover{From: r.now.ID, Ports: fixed, Aliases: convert.Aliases(in)}
	if err := client.Tell(s.cl, "/kist"+path(id, "/takeover"), nil, t); err != nil {
		return s.keepOld(label, id, fmt.Errorf("hand over ports and names: %w", err))
	}
	// From here on there is no way back. Whoever is interrupted now finds the new one in its place, and the old one too many.
	err = s.rename(r.now.ID, id[:12]+"_"+name)
	if err == nil {
		err = s.rename(id, name)
	}
	if err != nil {
		return fmt.Errorf("name %s: %w", label, err)
	}
	s.board.Set(screen.Row{Kind: "Container", Name: label, State: "draining", Ports: portsOf(&w.service)})
	time.Sleep(drain(&w.service))
	if err := s.endContainer(r.now, g.hooksOf(r.now), g.patience, false, g.freshVolumes); err != nil {
		return err
	}
	g.mu.Lock()
	r.id, r.name, w.changed = id, name, true
	g.mu.Unlock()
	s.board.Set(screen.Row{Kind: "Container", Name: label, State: "updated", Ports: portsOf(&w.service), Mark: screen.Done})
	return nil
}

// raise starts a new container and waits until it is well.
func (s *stack) raise(ctx context.Context, w *want, id, label string) error {
	if err := s.startContainer(id); err != nil {
		return fmt.Errorf("start the new container: %w", err)
	}
	if err := s.runHooks(w.service.PostStart, "post_start", label, id); err != nil {
		return err
	}
	began := time.Now()
	if err := s.await(ctx, w.service.Name, conditionRunning, []member{{id, label + " (new)"}}); err != nil {
		return err
	}
	in, err := s.inspect(id)
	if err != nil || in.State == nil || in.State.Health != nil {
		return err
	}
	// Without a check, not having ended is the sign of health.
	for rest := monitor(&w.service) - time.Since(began); rest > 0; rest = monitor(&w.service) - time.Since(began) {
		time.Sleep(min(rest, lastLook))
		if err := s.await(ctx, w.service.Name, conditionRunning, []member{{id, label + " (new)"}}); err != nil {
			return err
		}
		if in, err := s.inspect(id); err != nil {
			return err
		} else if in.RestartCount > 0 {
			return s.because(member{id, label}, w.service.Name, in, "the new container has ended and was restarted")
		}
	}
	return nil
}

func monitor(svc *types.ServiceConfig) time.Duration {
	if u := updates(svc); u != nil && u.Monitor > 0 {
		return time.Duration(u.Monitor)
	}
	return monitorTime
}

func drain(svc *types.ServiceConfig) time.Duration {
	if u := updates(svc); u != nil && u.Delay > 0 {
		return time.Duration(u.Delay)
	}
	return drainTime
}

func updates(svc *types.ServiceConfig) *types.UpdateConfig {
	if svc.Deploy == nil {
		return nil
	}
	return svc.Deploy.UpdateConfig
}

// keepOld takes a new container away again; the old one goes on as if nothing had been.
func (s *stack) keepOld(label, id string, err error) error {
	s.board.Set(screen.Row{Kind: "Container", Name: label, State: "not updated", Detail: "(the old one goes on)", Mark: screen.Failed})
	if id != "" {
		if failed := s.removeGone(id, true); failed != nil {
			err = errors.Join(err, failed)
		}
	}
	return fmt.Errorf("%s is not updated, the container that was there goes on: %w", label, err)
}
