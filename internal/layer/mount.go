package layer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// OpenRoot mounts the root filesystem id nowhere but on a descriptor (fsmount, Linux 5.2): the returned root resolves every
// path inside it. For a container that is not running. Close drops the mount.
func (s *Store) OpenRoot(id string) (*sys.Root, error) {
	o, err := s.Rootfs(id)
	if err != nil {
		return nil, err
	}
	o.Volatile = false
	f, err := s.mount(o)
	if err != nil {
		return nil, fmt.Errorf("mount root filesystem %s: %w", id, err)
	}
	return sys.NewRoot(f), nil
}

// OpenView is OpenRoot for looking only, while the root filesystem may be mounted elsewhere: to overlayfs the writable
// layer is then just one more lower directory. What changes meanwhile may or may not be seen.
func (s *Store) OpenView(id string) (*sys.Root, error) {
	p, err := s.root(id)
	if err != nil {
		return nil, err
	}
	o := s.overlay(id, p)
	if o.Upper != "" {
		o.Lower = append([]string{o.Upper}, o.Lower...)
		o.Upper, o.Work, o.Volatile = "", "", false
	}
	f, err := s.mount(o)
	if err != nil {
		return nil, fmt.Errorf("mount root filesystem %s: %w", id, err)
	}
	return sys.NewRoot(f), nil
}

// mount makes a detached mount.
func (s *Store) mount(o sys.Overlay) (*os.File, error) {
	fsfd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen overlay: %w", err)
	}
	defer unix.Close(fsfd)
	err = configure(fsfd, o)
	if errors.Is(err, unix.EINVAL) {
		return s.mountOld(o)
	}
	if err != nil {
		return nil, fmt.Errorf("configure overlay: %w", err)
	}
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return nil, fmt.Errorf("create overlay: %w", err)
	}
	fd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID)
	if err != nil {
		return nil, fmt.Errorf("fsmount overlay: %w", err)
	}
	return os.NewFile(uintptr(fd), "overlay"), nil
}

// configure tells overlayfs its options. Renamed directories and files copied up by half would make layers that no
// archive can express, whatever the host's defaults are.
func configure(fsfd int, o sys.Overlay) error {
	for _, dir := range o.Lower {
		if err := unix.FsconfigSetString(fsfd, "lowerdir+", dir); err != nil {
			return err
		}
	}
	options := [][2]string{{"source", "kist"}, {"redirect_dir", "nofollow"}, {"metacopy", "off"}, {"index", "off"}}
	if o.Upper != "" {
		options = append(options, [2]string{"upperdir", o.Upper}, [2]string{"workdir", o.Work})
	}
	for _, kv := range options {
		if err := unix.FsconfigSetString(fsfd, kv[0], kv[1]); err != nil {
			return err
		}
	}
	if o.UserXattr {
		return unix.FsconfigSetFlag(fsfd, "userxattr")
	}
	return nil
}

// mountOld serves kernels without lowerdir+ (before 6.8), and paths longer than fsconfig takes: it mounts, opens and
// unmounts at once, so that only the descriptor holds the mount.
func (s *Store) mountOld(o sys.Overlay) (*os.File, error) {
	data, err := oldOptions(o)
	if err != nil {
		return nil, err
	}
	name := "t/" + randomName()
	if err := unix.Mkdirat(s.fd, name, 0o700); err != nil {
		return nil, err
	}
	defer func() { _ = unix.Unlinkat(s.fd, name, unix.AT_REMOVEDIR) }() // what stays is removed by Open
	at := filepath.Join(s.dir, name)
	if err := unix.Mount("kist", at, "overlay", unix.MS_NODEV|unix.MS_NOSUID, data); err != nil {
		return nil, fmt.Errorf("mount overlay: %w", err)
	}
	defer func() { _ = unix.Unmount(at, unix.MNT_DETACH) }() // it is there, and ours
	fd, err := unix.Open(at, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open overlay: %w", err)
	}
	return os.NewFile(uintptr(fd), "overlay"), nil
}

func oldOptions(o sys.Overlay) (string, error) {
	escape := strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`)
	lower := make([]string, len(o.Lower))
	for i, dir := range o.Lower {
		lower[i] = escape.Replace(dir)
	}
	data := "index=off,lowerdir=" + strings.Join(lower, ":")
	if o.Upper != "" {
		data += ",upperdir=" + escape.Replace(o.Upper) + ",workdir=" + escape.Replace(o.Work)
	}
	if o.UserXattr {
		data += ",userxattr"
	}
	if len(data) >= os.Getpagesize() {
		return "", fmt.Errorf("%d layers do not fit into this kernel's mount options (Linux 6.8 takes more): %w",
			len(o.Lower), errdefs.ErrNotImplemented)
	}
	return data, nil
}
