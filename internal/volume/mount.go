package volume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
)

// Mount returns the directory of a volume's files for a user: a container's id, or any words with a space between them for
// something that will soon be over. A volume that is
// something to be mounted is mounted on the host with its first user, and unmounted with its last (Unmount).
func (s *Store) Mount(ctx context.Context, name, user string) (dir string, err error) {
	s.mu.Lock()
	e, err := s.get(name)
	if err != nil {
		s.mu.Unlock()
		return "", err
	}
	dir = s.data(name)
	if !mounted(e.Options) {
		s.mu.Unlock()
		return dir, nil
	}
	// Noted before it is mounted, so that nobody unmounts or removes it in between.
	e.mounts[user] = true
	s.mu.Unlock()
	e.op.Lock()
	defer e.op.Unlock()
	if there, err := isMountPoint(dir); err != nil || there {
		return dir, err
	}
	if err := ctx.Err(); err != nil {
		s.dropMount(e, user)
		return "", err
	}
	if err := mountOn(dir, name, e.Options); err != nil {
		s.dropMount(e, user)
		return "", err
	}
	return dir, nil
}

// dropMount takes a user away, and says whether it was the last one.
func (s *Store) dropMount(e *entry, user string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	had := e.mounts[user]
	delete(e.mounts, user)
	return had && len(e.mounts) == 0
}

// Unmount ends a user's use of all volumes that Mount mounted for it.
func (s *Store) Unmount(user string) error {
	s.mu.Lock()
	var list []*entry
	for _, e := range s.volumes {
		if e.mounts[user] {
			list = append(list, e)
		}
	}
	s.mu.Unlock()
	var errs []error
	for _, e := range list {
		if s.dropMount(e, user) {
			errs = append(errs, s.unmountIdle(e))
		}
	}
	return errors.Join(errs...)
}

// unmountIdle unmounts a volume that nobody uses.
func (s *Store) unmountIdle(e *entry) error {
	e.op.Lock()
	defer e.op.Unlock()
	s.mu.Lock()
	used := len(e.mounts) > 0
	s.mu.Unlock()
	if used {
		return nil
	}
	dir := s.data(e.name)
	there, err := isMountPoint(dir)
	if err != nil || !there {
		return err
	}
	if err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("unmount volume %s: %w", e.name, err)
	}
	return nil
}

// Settle unmounts what nobody has said to use since Open: what a crash left.
func (s *Store) Settle() error {
	s.mu.Lock()
	list := slices.Collect(maps.Values(s.volumes))
	s.mu.Unlock()
	var errs []error
	for _, e := range list {
		if mounted(e.Options) {
			errs = append(errs, s.unmountIdle(e))
		}
	}
	return errors.Join(errs...)
}

// isMountPoint says whether something is mounted on the directory itself.
func isMountPoint(dir string) (bool, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &st); err != nil {
		if errors.Is(err, unix.ESTALE) || errors.Is(err, unix.ENOTCONN) {
			return true, nil // a mount whose server is gone
		}
		return false, fmt.Errorf("look at %s: %w", dir, err)
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

// mountOn mounts what the options say.
func mountOn(dir, name string, options map[string]string) error {
	kind, device := options[optType], options[optDevice]
	m, err := parseMountOptions(options[optO])
	if err != nil {
		return err
	}
	if m.bind() {
		if _, err := os.Stat(device); err != nil {
			return mountFault(name, options, err)
		}
		kind = ""
	}
	data, err := resolve(kind, device, m.data)
	if err != nil {
		return err
	}
	if err := unix.Mount(device, dir, kind, m.flags, strings.Join(data, ",")); err != nil {
		return mountFault(name, options, err)
	}
	if err := m.refine(dir); err != nil {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		return mountFault(name, options, err)
	}
	return nil
}

// refine does what mount(2) takes further calls for: flags of a bind mount, and propagation.
func (m *mountOptions) refine(dir string) error {
	const perMount = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME
	if m.bind() && m.flags&perMount != 0 {
		if err := unix.Mount("", dir, "", m.flags&perMount|unix.MS_BIND|unix.MS_REMOUNT, ""); err != nil {
			return err
		}
	}
	if m.propagation == 0 {
		return nil
	}
	return unix.Mount("", dir, "", m.propagation, "")
}

// mountFault says why a volume cannot be mounted, without the passwords in its options.
func mountFault(name string, options map[string]string, err error) error {
	f := &fault.Error{
		Code: "volume-mount", What: "cannot mount volume " + name,
		Cause: fmt.Sprintf("mount -t %s -o %s %s: %v", options[optType], masked(options[optO]), options[optDevice], err),
		Class: errdefs.ErrFailedPrecondition, Err: err,
	}
	switch {
	case errors.Is(err, unix.ENODEV):
		f.Try = "load the kernel's module for " + options[optType]
	case errors.Is(err, unix.ENOENT) && isBind(options):
		f.Try = "mkdir -p " + options[optDevice]
	case errors.Is(err, unix.EPERM):
		f.Class = errdefs.ErrPermissionDenied
	}
	return f
}

// masked hides passwords.
func masked(o string) string {
	words := strings.Split(o, ",")
	for i, w := range words {
		for _, secret := range []string{"password=", "pass=", "password2="} {
			if strings.HasPrefix(w, secret) {
				words[i] = secret + "***"
			}
		}
	}
	return strings.Join(words, ",")
}
