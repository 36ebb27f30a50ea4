package runstep

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/relay"
)

// sshMount shows a socket behind which the client's agent answers.
func (s *step) sshMount(ctx context.Context, m *Mount) error {
	o := m.SSHOpt
	if o == nil {
		return fmt.Errorf("ssh mount at %s without options: %w", m.Dest, errdefs.ErrInvalidArgument)
	}
	id := o.ID
	if id == "" {
		id = "default"
	}
	ok, err := s.hasAgent(ctx, id, o.Optional)
	if err != nil || !ok {
		return err
	}
	l, path, err := s.listen("agent" + s.name())
	if err != nil {
		return fmt.Errorf("forward ssh agent %s: %w", id, err)
	}
	agent := relay.Serve(l, func() (net.Conn, error) { return s.SSH(ctx, id) })
	s.push(func(context.Context) error { return errors.Join(agent.Close(), os.Remove(path)) })
	if err := errors.Join(os.Chown(path, int(o.Uid), int(o.Gid)), os.Chmod(path, os.FileMode(o.Mode&0o777))); err != nil {
		return fmt.Errorf("forward ssh agent %s: %w", id, err)
	}
	s.bind(m, path, "nosuid", "nodev", "noexec")
	return nil
}

// hasAgent finds out whether the client has the agent, before the step relies on it.
func (s *step) hasAgent(ctx context.Context, id string, optional bool) (bool, error) {
	var err error = errdefs.ErrNotFound
	if s.SSH != nil {
		var c net.Conn
		if c, err = s.SSH(ctx, id); err == nil {
			_ = c.Close()
			return true, nil
		}
	}
	switch {
	case optional:
		return false, nil
	case !errdefs.IsNotFound(err):
		return false, fmt.Errorf("connect to ssh agent %s: %w", id, err)
	}
	return false, &fault.Error{
		Code: "ssh-missing", What: "no SSH key " + id + " was given to the build", Cause: "the step requires an agent of that name",
		Try: "build with --ssh " + id + " (and an agent in SSH_AUTH_SOCK), or --ssh " + id + "=SOCKET|KEY", Class: errdefs.ErrNotFound,
	}
}
