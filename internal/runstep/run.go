package runstep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/logfile"
	"github.com/kistdev/kist/internal/task"
)

// patience bounds what must be done even when the build was cancelled.
const patience = 30 * time.Second

// Run runs the command, and returns a layer for each output of the operation, by its number: what was changed in the
// mount that is this output. A command that fails is an *ExitError. When ctx ends, the command is killed. Nothing of a step
// that failed is left.
func (r *Runner) Run(ctx context.Context, q Request) (_ []layer.Committed, err error) {
	s, err := r.begin(&q)
	if err != nil {
		if q.Stdio != nil {
			err = errors.Join(err, q.Stdio.Close())
		}
		return nil, err
	}
	defer func() {
		if s.Stdio != nil && !s.handed {
			err = errors.Join(err, s.Stdio.Close())
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		if s.out != nil {
			err = errors.Join(err, s.out.close())
		}
		err = errors.Join(err, s.end(ctx))
	}()
	if err := s.putUp(ctx); err != nil {
		return nil, errors.Join(err, s.r.deleteTask(ctx, s.id)) // The keeper may know of it by its output.
	}
	if err := s.execute(ctx); err != nil {
		return nil, err
	}
	if err := s.unmount(); err != nil {
		return nil, err
	}
	return s.commit(ctx)
}

// putUp prepares all that the process needs.
func (s *step) putUp(ctx context.Context) error {
	if err := s.emulation(); err != nil {
		return err
	}
	var g errgroup.Group
	g.Go(func() error { return s.wire(ctx) })
	g.Go(func() error { return s.stack(ctx) })
	g.Go(func() (err error) {
		s.out, err = s.attach(ctx)
		return err
	})
	// All are waited for even if one fails: what they have put up is known then.
	return g.Wait()
}

// stack makes the root filesystem and what is mounted in it.
func (s *step) stack(ctx context.Context) (err error) {
	if err := s.collect(ctx); err != nil {
		return err
	}
	if s.root.Prepared != "" {
		s.overlay, err = s.r.cfg.Layers.Rootfs(s.root.Prepared)
		return err
	}
	s.overlay, err = s.prepare(ctx, s.root, s.id, false)
	return err
}

// execute runs the process to its end.
func (s *step) execute(ctx context.Context) error {
	spec, err := s.spec()
	if err != nil {
		return err
	}
	exit, release := s.r.tasks.Claim(s.id)
	defer release()
	request := task.CreateRequest{
		ID: s.id, Spec: spec, Rootfs: &s.overlay, Log: logfile.Config{Driver: "none"}, Private: len(s.env) > 0,
		Merged: s.Stdio == nil, // Who reads a build's output wants to know what came after what.
		Stdin:  s.Stdio != nil, StdinOnce: s.Stdio != nil,
	}
	if s.sandbox != nil {
		request.NetNS = s.sandbox.NS
	}
	// Without the cancellation, which comes after it: then it is known whether there is a process.
	_, warnings, err := s.r.tasks.Run(context.WithoutCancel(ctx), request)
	if err != nil {
		return errors.Join(s.explain(err), s.r.deleteTask(ctx, s.id))
	}
	for _, w := range warnings {
		slog.Warn("build step", "id", s.id, "warning", w)
	}
	x, err := s.wait(ctx, exit)
	// The mounts are gone with it. Its output has ended, too, if the keeper is alive.
	if derr := s.r.deleteTask(ctx, s.id); err == nil {
		err = derr
	}
	if err != nil {
		return err
	}
	s.out.finish()
	return s.judge(x)
}

// wait waits for the exit; when ctx ends first, the process is killed.
func (s *step) wait(ctx context.Context, exit <-chan task.Exit) (task.Exit, error) {
	select {
	case x := <-exit:
		return x, nil
	case <-ctx.Done():
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	// One that has just ended cannot be killed; its exit is on the way.
	_ = s.r.tasks.Kill(after, s.id, "", unix.SIGKILL)
	select {
	case <-exit:
		return task.Exit{}, context.Cause(ctx)
	case <-after.Done():
		return task.Exit{}, fmt.Errorf("build step does not end, though it was killed: %w", context.Cause(ctx))
	}
}

// deleteTask has the keeper forget the task, killing it if it must.
func (r *Runner) deleteTask(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return r.tasks.Delete(ctx, id)
}

// judge tells success from failure.
func (s *step) judge(x task.Exit) error {
	valid := x.Code == 0
	if codes := s.Op.Meta.ValidExitCodes; len(codes) > 0 {
		valid = false
		for _, c := range codes {
			valid = valid || int(c) == x.Code
		}
	}
	if valid && !x.Unknown {
		return nil
	}
	return &ExitError{
		Args: s.Op.Meta.Args, Code: x.Code, Signal: x.Signal, Tail: s.out.tail.String(),
		OOMKilled: x.OOMKilled, MemoryLimit: x.MemoryLimit,
	}
}

// commit makes the layers.
func (s *step) commit(ctx context.Context) ([]layer.Committed, error) {
	var outputs []layer.Committed
	if s.root.Prepared != "" {
		if err := s.removeStubs(s.root, s.root.Prepared); err != nil {
			return nil, err
		}
	}
	for i := range s.Mounts {
		m := &s.Mounts[i]
		if m.Output < 0 || !writesLayer(m) {
			continue
		}
		for int64(len(outputs)) <= m.Output {
			outputs = append(outputs, layer.Committed{})
		}
		id, ok := s.roots[m]
		if !ok || m.Readonly {
			continue // nothing can have changed
		}
		if err := s.removeStubs(m, id); err != nil {
			return nil, err
		}
		c, err := s.r.cfg.Layers.Commit(ctx, id, s.Commit)
		if err != nil {
			return nil, err
		}
		delete(s.roots, m)
		outputs[m.Output] = c
	}
	return outputs, nil
}
