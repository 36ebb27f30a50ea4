package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// hooks is what the hooks of a container's later life need.
type hooks struct {
	specs.Hooks
	state specs.State
	spec  *specs.Spec
	dir   string // where they run; this process's directory if empty
}

func newHooks(b *Bundle, pid int) *hooks {
	if b.Spec.Hooks == nil {
		return nil
	}
	h := &hooks{Hooks: *b.Spec.Hooks, spec: b.Spec}
	h.state = specs.State{Version: specs.Version, ID: b.ID, Pid: pid, Annotations: b.Spec.Annotations}
	if b.Spec.Root != nil {
		h.state.Bundle = b.Spec.Root.Path
	}
	return h
}

// created runs those that run before the container does.
func (h *hooks) created(ctx context.Context) error {
	if h == nil {
		return nil
	}
	if err := h.run(ctx, specs.StateCreating, h.Prestart); err != nil { //nolint:staticcheck // deprecated, but in use
		return err
	}
	if err := h.run(ctx, specs.StateCreating, h.CreateRuntime); err != nil {
		return err
	}
	return h.insideHooks(ctx)
}

func (h *hooks) started(ctx context.Context) error {
	if h == nil {
		return nil
	}
	return h.run(ctx, specs.StateRunning, h.Poststart)
}

func (h *hooks) stopped(ctx context.Context) error {
	if h == nil {
		return nil
	}
	return h.run(ctx, specs.StateStopped, h.Poststop)
}

// run runs the specification's hooks in the runtime's own namespaces, with the container's state on their input.
func (h *hooks) run(ctx context.Context, status specs.ContainerState, hooks []specs.Hook) error {
	if len(hooks) == 0 {
		return nil
	}
	h.state.Status = status
	text, err := json.Marshal(&h.state)
	if err != nil {
		return fmt.Errorf("state for hooks: %w", err)
	}
	for i := range hooks {
		if err := runHook(ctx, &hooks[i], text, h.dir); err != nil {
			return err
		}
	}
	return nil
}

func runHook(ctx context.Context, h *specs.Hook, state []byte, dir string) error {
	if h.Timeout != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*h.Timeout)*time.Second)
		defer cancel()
	}
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, h.Path)
	if len(h.Args) > 0 {
		cmd.Args = h.Args
	}
	cmd.Env, cmd.Dir = h.Env, dir
	cmd.Stdin = bytes.NewReader(state)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("hook %s: %w: %s", h.Path, err, bytes.TrimSpace(output.Bytes()))
	}
	return nil
}
