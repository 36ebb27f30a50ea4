package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/containerd/errdefs"
	docker "github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/spec"
	"github.com/kistdev/kist/internal/undo"
)

// Secret is a file that exists in memory only: `run --secret`. Its value is in no row, no log and no answer.
type Secret struct {
	ID string
	// Target is its path in the container; /run/secrets/ID when empty.
	Target string `json:",omitempty"`
	// Mode is 0400 when nil, UID and GID those of the container's user.
	Mode, UID, GID *uint32 `json:",omitempty"`
	// Data is the value. It is taken out before the rest is noted.
	Data []byte `json:",omitempty"`
}

// Bounds of a container's secrets.
const (
	maxSecret  = 500 << 10
	maxSecrets = 256
	// secretsRoom is what all containers' secrets may take where a file system in memory is made for them.
	secretsRoom = "size=64m"
)

var secretID = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

// CreateWithSecrets is Create of a container that gets secrets.
func (e *Engine) CreateWithSecrets(
	ctx context.Context, name string, platform *ocispec.Platform, r docker.CreateRequest, secrets []Secret,
) (docker.CreateResponse, error) {
	return e.create(ctx, name, platform, r, contents{secrets: secrets})
}

// checkSecrets completes secrets, and refuses those that cannot be.
func checkSecrets(secrets []Secret, mounts []mountPoint) error {
	if len(secrets) > maxSecrets {
		return invalid("a container has at most %d secrets", maxSecrets)
	}
	taken := map[string]bool{}
	for _, m := range mounts {
		taken[m.Target] = true
	}
	for i := range secrets {
		s := &secrets[i]
		switch {
		case !secretID.MatchString(s.ID):
			return invalid("invalid id %q of a secret: letters, digits, '_', '.' and '-'", s.ID)
		case len(s.Data) > maxSecret:
			return invalid("secret %s is larger than %d bytes", s.ID, maxSecret)
		case s.Mode != nil && *s.Mode > 0o777:
			return invalid("secret %s: invalid mode %o", s.ID, *s.Mode)
		}
		if s.Target == "" {
			s.Target = s.ID
		}
		if !path.IsAbs(s.Target) {
			s.Target = "/run/secrets/" + s.Target
		}
		if s.Target = path.Clean(s.Target); s.Target == "/" {
			return invalid("secret %s: invalid target", s.ID)
		}
		if taken[s.Target] {
			return invalid("Duplicate mount point: %s", s.Target)
		}
		taken[s.Target] = true
	}
	return nil
}

func (e *Engine) secretsRoot() string { return filepath.Join(e.cfg.ExecRoot, "secrets") }

func (e *Engine) secretFile(id string, i int) string {
	return filepath.Join(e.secretsRoot(), id, strconv.Itoa(i))
}

// keepSecrets writes the values to memory. There they outlive this daemon, and not the machine.
func (e *Engine) keepSecrets(id string, secrets []Secret, u *undo.Stack) error {
	if len(secrets) == 0 {
		return nil
	}
	root := e.secretsRoot()
	if err := memoryAt(root); err != nil {
		return err
	}
	u.Push("remove secrets", func(context.Context) error { return e.removeSecrets(id) })
	if err := os.Mkdir(filepath.Join(root, id), 0o700); err != nil {
		return fmt.Errorf("keep secrets: %w", err)
	}
	for i := range secrets {
		if err := os.WriteFile(e.secretFile(id, i), secrets[i].Data, 0o400); err != nil {
			return fmt.Errorf("keep secret %s: %w", secrets[i].ID, err)
		}
	}
	return nil
}

// memoryAt makes a directory that is in memory: the exec root usually is; elsewhere a file system of its own is mounted.
func memoryAt(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep secrets: %w", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("keep secrets: %w", err)
	}
	if st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC {
		return nil
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, secretsRoom+",mode=700"); err != nil {
		return fmt.Errorf("keep secrets: mount a file system in memory at %s: %w", dir, err)
	}
	return nil
}

func (e *Engine) removeSecrets(id string) error {
	return os.RemoveAll(filepath.Join(e.secretsRoot(), id))
}

// dropSecrets removes those of a container that is removed, if it has any.
func (e *Engine) dropSecrets(d *definition) error {
	if len(d.Secrets) == 0 {
		return nil
	}
	return e.removeSecrets(d.ID)
}

// withoutValues are secrets as the row has them.
func withoutValues(secrets []Secret) []Secret {
	var list []Secret
	for _, s := range secrets {
		s.Data = nil
		list = append(list, s)
	}
	return list
}

// secretMounts are the mounts of the container's secrets, each owned by whoever is to read it.
func (e *Engine) secretMounts(d *definition, user spec.User) ([]specs.Mount, error) {
	var list []specs.Mount
	for i := range d.Secrets {
		s := &d.Secrets[i]
		file := e.secretFile(d.ID, i)
		uid, gid, mode := user.UID, user.GID, uint32(0o400)
		for _, o := range []struct{ to, from *uint32 }{{&uid, s.UID}, {&gid, s.GID}, {&mode, s.Mode}} {
			if o.from != nil {
				*o.to = *o.from
			}
		}
		err := os.Chown(file, int(uid), int(gid))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, secretGone(s.ID)
		}
		if err = errors.Join(err, os.Chmod(file, os.FileMode(mode))); err != nil {
			return nil, fmt.Errorf("secret %s: %w", s.ID, err)
		}
		list = append(list, specs.Mount{
			Type: "bind", Source: file, Destination: s.Target, Options: []string{"bind", "private", "ro", "nosuid", "nodev", "noexec"},
		})
	}
	return list, nil
}

func secretGone(id string) error {
	return &fault.Error{
		Code: "secret-gone", What: "the value of secret " + id + " is gone",
		Cause: "secrets are kept in memory only, and this machine was restarted since the container was made",
		Try:   "remove the container and run it again with --secret", Class: errdefs.ErrFailedPrecondition,
	}
}

// clearSecrets removes those of containers that are no more, after a crash.
func (e *Engine) clearSecrets() error {
	entries, err := os.ReadDir(e.secretsRoot())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if e.index.get(entry.Name()) == nil {
			err = errors.Join(err, e.removeSecrets(entry.Name()))
		}
	}
	return err
}
