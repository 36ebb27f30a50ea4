package cli

import (
	"errors"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

func (a *app) attachCommand() *cobra.Command {
	var (
		keys              string
		noStdin, sigProxy bool
	)
	c := &cobra.Command{Use: "attach [OPTIONS] CONTAINER", Args: exactly(1)}
	c.Flags().StringVar(&keys, "detach-keys", "", "Keys that leave it running, as in ctrl-p,ctrl-q")
	c.Flags().BoolVar(&noStdin, "no-stdin", false, "Do not attach standard input")
	c.Flags().BoolVar(&sigProxy, "sig-proxy", true, "Pass signals on to it")
	c.RunE = func(_ *cobra.Command, args []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		info, err := client.CallJSON[container.InspectResponse](cl, client.Get(containerPath(args[0], "/json"), nil))
		if err != nil {
			return a.hintContainer(cl, args[0], err)
		}
		if err := attachable(args[0], info.State); err != nil {
			return err
		}
		return a.attachRunning(cl, info, attachOptions{keys: keys, noStdin: noStdin, sigProxy: sigProxy})
	}
	return c
}

// attachable refuses a container that does not run now.
func attachable(name string, s *container.State) error {
	switch {
	case s == nil || s.Status == "":
		return nil
	case s.Paused:
		return &hintedError{err: errors.New("cannot attach to a paused container, unpause it first"), try: "kist unpause " + name}
	case s.Restarting:
		return &hintedError{err: errors.New("cannot attach to a restarting container, wait until it is running"), try: "kist logs " + name}
	case !s.Running:
		return &hintedError{err: errors.New("cannot attach to a stopped container, start it first"), try: "kist start -a " + name}
	}
	return nil
}

// stillAttachable is attachable for a state asked for anew. A container that restarts is attached to across its runs.
func stillAttachable(cl *client.Client, id string) error {
	info, err := client.CallJSON[container.InspectResponse](cl, client.Get(containerPath(id, "/json"), nil))
	if err != nil {
		return err
	}
	if s := info.State; s != nil && s.Restarting {
		return nil
	}
	return attachable(strings.TrimPrefix(info.Name, "/"), info.State)
}

type attachOptions struct {
	keys              string
	noStdin, sigProxy bool
}

func (a *app) attachRunning(cl *client.Client, info *container.InspectResponse, o attachOptions) error {
	st := streams{in: !o.noStdin && info.Config.OpenStdin, out: true, err: true, tty: info.Config.Tty}
	if err := a.checkTTY(st.in, st.tty); err != nil {
		return err
	}
	keys, err := detachKeys(o.keys, a.config().DetachKeys)
	if err != nil {
		return err
	}
	again := "not-running"
	if info.HostConfig != nil && info.HostConfig.AutoRemove {
		again = "removed"
	}
	w := watchFor(cl, info.ID, "", again)
	s, err := a.attach(cl, info.ID, st, keys)
	if err != nil {
		return err
	}
	defer s.close()
	// It may have ended while it was being attached to: then the stream waits for its next start.
	if err := stillAttachable(cl, info.ID); err != nil {
		return err
	}
	if o.sigProxy && !st.tty {
		defer a.proxySignals(cl, info.ID)()
	}
	if err := s.begin(); err != nil {
		return err
	}
	if st.tty {
		defer a.nudgeSize(cl, info.ID)()
	}
	return a.finish(w, s)
}

// nudgeSize follows the terminal's size. A size other than the last one makes a full-screen program draw itself again.
func (a *app) nudgeSize(cl *client.Client, id string) (stop func()) {
	if rows, cols, ok := terminalSize(a.out); ok {
		// Only the redraw is lost if the container refuses it.
		_ = resizeContainer(cl, id, rows+1, cols+1)
	}
	return a.followSize(true, func(rows, cols int) error { return resizeContainer(cl, id, rows, cols) })
}
