package compose

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/kistdev/kist/internal/cli"
	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/compose/convert"
	"github.com/kistdev/kist/internal/compose/model"
	"github.com/kistdev/kist/internal/compose/screen"
	"github.com/kistdev/kist/internal/fault"
)

// stopNicely stops a container after its hooks have run in it.
func (s *stack) stopNicely(c *found, hooks []types.ServiceHook, patience *int) error {
	if c.State == container.StateRunning {
		if err := s.runHooks(hooks, "pre_stop", c.short(), c.ID); err != nil {
			// A container that is to go goes, whatever its hook says.
			s.board.Note("warning: " + firstLine(err))
		}
	}
	err := s.stopContainer(c.ID, patience)
	if errdefs.IsNotFound(err) || errdefs.IsNotModified(err) {
		return nil
	}
	return err
}

// removeGone removes a container that may have gone by itself.
func (s *stack) removeGone(id string, volumes bool) error {
	err := s.removeContainer(id, true, volumes)
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

func (s *stack) unpause(id string) error { return s.cl.Call(client.Post(path(id, "/unpause"), nil)) }

// runHooks runs commands in a container, one after the other.
func (s *stack) runHooks(hooks []types.ServiceHook, kind, label, id string) error {
	for _, h := range hooks {
		if err := s.runHook(&h, id); err != nil {
			return fmt.Errorf("%s of %s (%s): %w", kind, label, strings.Join(h.Command, " "), err)
		}
	}
	return nil
}

// runHook runs a command in a container and returns its failure, with what it printed.
func (s *stack) runHook(h *types.ServiceHook, id string) error {
	r := container.ExecCreateRequest{
		User: h.User, Privileged: h.Privileged, WorkingDir: h.WorkingDir, Cmd: h.Command, AttachStdout: true, AttachStderr: true,
	}
	for name, v := range h.Environment {
		if v != nil {
			r.Env = append(r.Env, name+"="+*v)
		}
	}
	out, code, err := s.execute(id, &r)
	if err != nil {
		return err
	}
	if code != 0 {
		return &fault.Error{
			Code: "compose-hook-failed", What: "the command ended with exit code " + strconv.Itoa(code), Cause: oneLine(out), Class: errdefs.ErrFailedPrecondition,
		}
	}
	return nil
}

// mostSaid bounds what is kept of a command's output.
const mostSaid = 64 << 10

// execute runs a command in a container to its end.
func (s *stack) execute(id string, r *container.ExecCreateRequest) (said string, code int, err error) {
	made, err := client.Ask[container.ExecCreateResponse](s.cl, path(id, "/exec"), nil, r)
	if err != nil {
		return "", 0, err
	}
	start, err := client.PostJSON("/exec/"+made.ID+"/start", nil, container.ExecStartRequest{})
	if err != nil {
		return "", 0, err
	}
	stream, err := s.cl.Hijack(start)
	if err != nil {
		return "", 0, err
	}
	defer stream.Close()
	var b tail
	if err := client.Demux(&b, &b, stream.Reader()); err != nil {
		return "", 0, err
	}
	code, err = s.tool.ExecCode(made.ID)
	return string(b), code, err
}

// tail keeps the end of what is written to it.
type tail []byte

func (t *tail) Write(p []byte) (int, error) {
	*t = append(*t, p...)
	if n := len(*t) - mostSaid; n > 0 {
		*t = append(tail(nil), (*t)[n:]...)
	}
	return len(p), nil
}

// preStart runs what a service wants done before it starts: each in a container of its own, with the service's networks and
// volumes.
func (s *stack) preStart(ctx context.Context, g *goal, w *want) error {
	for i := range w.service.PreStart {
		h := &w.service.PreStart[i]
		label := fmt.Sprintf("%s-pre_start-%d", w.service.Name, i)
		s.set("Container", label, "running", screen.Working)
		if err := s.preStartOne(ctx, g, w, h, i, label); err != nil {
			s.failed("Container", label, "failed")
			return fmt.Errorf("pre_start of service %s: %w", w.service.Name, err)
		}
		s.set("Container", label, "done", screen.Done)
	}
	return nil
}

func (s *stack) preStartOne(ctx context.Context, g *goal, w *want, h *types.PreStartHook, i int, label string) error {
	name := fmt.Sprintf("%s-%s-pre_start-%d", g.p.Name, w.service.Name, i)
	if err := s.removeGone(name, true); err != nil {
		return err
	}
	svc := types.ServiceConfig{Name: w.service.Name, ContainerSpec: h.ContainerSpec}
	svc.ContainerName, svc.Restart = name, "no"
	svc.CustomLabels = model.ServiceLabels(g.p, w.service.Name, s.options.EnvFiles)
	svc.VolumesFrom = append(svc.VolumesFrom, types.ContainerPrefix+w.replicas[0].id)
	if svc.Image == "" {
		svc.Image = model.ImageName(g.p.Name, &w.service)
	}
	if len(svc.Networks) == 0 && svc.NetworkMode == "" {
		svc.Networks, svc.NetworkMode = w.service.Networks, w.service.NetworkMode
	}
	id, err := s.make(&convert.Input{
		Project: g.p, Service: convert.Resolve(svc, g.firstLocked), Alone: true, ReadFile: os.ReadFile,
		Labels: types.Labels{model.LabelHook: "pre_start", model.LabelHookIndex: strconv.Itoa(i)},
	}, name)
	if cli.ImageMissing(err) {
		if err := s.pullService(g.p, &svc, false); err != nil {
			return err
		}
		return s.preStartOne(ctx, g, w, h, i, label)
	}
	if err != nil {
		return err
	}
	if err := s.startContainer(id); err != nil {
		return errors.Join(err, s.removeGone(id, true))
	}
	if err := s.await(ctx, w.service.Name, types.ServiceConditionCompletedSuccessfully, []member{{id, label}}); err != nil {
		return err
	}
	return s.removeGone(id, true)
}

// firstLocked is first for whom does not hold the lock.
func (g *goal) firstLocked(service string) (string, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.first(service)
}
