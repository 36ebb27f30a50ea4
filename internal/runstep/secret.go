package runstep

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/sys"
)

// maxSecret bounds one secret, as BuildKit does.
const maxSecret = 500 << 10

// secret asks the client for a secret. Ok is false if it has none and that is allowed.
func (s *step) secret(ctx context.Context, id string, optional bool) (value []byte, ok bool, err error) {
	err = errdefs.ErrNotFound
	if s.Secrets != nil {
		value, err = s.Secrets(ctx, id)
	}
	switch {
	case err == nil && len(value) > maxSecret:
		return nil, false, fmt.Errorf("secret %s is larger than %d bytes: %w", id, maxSecret, errdefs.ErrInvalidArgument)
	case err == nil:
		return value, true, nil
	case !errdefs.IsNotFound(err):
		return nil, false, fmt.Errorf("ask for secret %s: %w", id, err)
	case optional:
		return nil, false, nil
	}
	return nil, false, &fault.Error{
		Code: "secret-missing", What: "secret " + id + ": not found", Cause: "the step requires it, and the build was given none of that name",
		Try: "build with --secret id=" + id + ",src=FILE or --secret id=" + id + ",env=VARIABLE", Class: errdefs.ErrNotFound,
	}
}

// secretEnv collects the secrets that are variables.
func (s *step) secretEnv(ctx context.Context) error {
	for _, e := range s.Op.Secretenv {
		value, ok, err := s.secret(ctx, e.ID, e.Optional)
		if err != nil {
			return err
		}
		if ok {
			s.env = append(s.env, e.Name+"="+string(value))
		}
	}
	return nil
}

// secretMount shows a secret as a file that exists in memory only.
func (s *step) secretMount(ctx context.Context, m *Mount) error {
	o := m.SecretOpt
	if o == nil {
		return fmt.Errorf("secret mount at %s without options: %w", m.Dest, errdefs.ErrInvalidArgument)
	}
	value, ok, err := s.secret(ctx, o.ID, o.Optional)
	if err != nil || !ok {
		return err
	}
	memory, err := s.memory()
	if err != nil {
		return err
	}
	name := s.name()
	f, err := writeIn(memory, name, value)
	if err != nil {
		return fmt.Errorf("secret %s: %w", o.ID, err)
	}
	s.pushMount(func() error { return f.Close() })
	if err := errors.Join(unix.Fchown(int(f.Fd()), int(o.Uid), int(o.Gid)), unix.Fchmod(int(f.Fd()), o.Mode&0o7777)); err != nil {
		return fmt.Errorf("secret %s: %w", o.ID, err)
	}
	s.bind(m, descriptorPath(f), "ro", "nosuid", "nodev", "noexec")
	return nil
}

// writeIn makes a file in the directory behind a descriptor.
func writeIn(dir *os.File, name string, content []byte) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(content); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// memory is the step's file system in memory.
func (s *step) memory() (*os.File, error) {
	if s.secrets != nil {
		return s.secrets, nil
	}
	f, err := memoryFS("64m")
	if err != nil {
		return nil, err
	}
	root := sys.NewRoot(f)
	s.pushMount(func() error { return closeOnce(root) })
	placed, err := s.place(root)
	if err != nil {
		return nil, err
	}
	s.secrets = placed.File()
	return s.secrets, nil
}
