package cli

import (
	"errors"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

func (a *app) startCommand() *cobra.Command {
	var (
		attach, interactive bool
		keys                string
	)
	c := &cobra.Command{Use: "start [OPTIONS] CONTAINER...", Args: atLeast(1)}
	c.Flags().BoolVarP(&attach, "attach", "a", false, "Show its output and pass signals on")
	c.Flags().StringVar(&keys, "detach-keys", "", "Keys that leave it running, as in ctrl-p,ctrl-q")
	c.Flags().BoolVarP(&interactive, "interactive", "i", false, "Pass standard input on")
	var checkpoint string
	for _, name := range []string{"checkpoint", "checkpoint-dir"} {
		c.Flags().StringVar(&checkpoint, name, "", "Not served")
		c.Flags().Lookup(name).Hidden = true
	}
	c.RunE = func(_ *cobra.Command, args []string) error {
		if checkpoint != "" {
			return errors.New("--checkpoint is not served: containers cannot be restored yet")
		}
		if !attach && !interactive {
			return a.eachContainer(args, post("/start", nil))
		}
		if len(args) > 1 {
			return errors.New("you cannot start and attach multiple containers at once")
		}
		return a.startAttached(args[0], interactive, keys)
	}
	return c
}

func (a *app) startAttached(name string, interactive bool, flagKeys string) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	info, err := client.CallJSON[container.InspectResponse](cl, client.Get(containerPath(name, "/json"), nil))
	if err != nil {
		return a.hintContainer(cl, name, err)
	}
	st := streams{in: interactive && info.Config.OpenStdin, out: true, err: true, tty: info.Config.Tty}
	if err := a.checkTTY(st.in, st.tty); err != nil {
		return err
	}
	keys, err := detachKeys(flagKeys, a.config().DetachKeys)
	if err != nil {
		return err
	}
	autoRemove := info.HostConfig != nil && info.HostConfig.AutoRemove
	w := watch(cl, info.ID, autoRemove)
	s, err := a.attach(cl, info.ID, st, keys)
	if err != nil {
		return err
	}
	defer s.close()
	if err := w.begun(); err != nil {
		return err
	}
	if !st.tty {
		defer a.proxySignals(cl, info.ID)()
	}
	if err := s.begin(); err != nil {
		return err
	}
	if err := w.start(); err != nil {
		err := a.startFailed(w, s, autoRemove, err)
		var ee *exitError
		if errors.As(err, &ee) && ee.code == exitUsage {
			ee.code = exitFailure
		}
		return err
	}
	if st.tty {
		defer a.followSize(true, func(rows, cols int) error { return resizeContainer(cl, info.ID, rows, cols) })()
	}
	return a.finish(w, s)
}
