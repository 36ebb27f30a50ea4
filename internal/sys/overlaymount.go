package sys

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Mount makes a mount that is attached nowhere: it lives as long as the descriptor. On kernels without lowerdir+ (before
// 6.8), or with paths that fsconfig does not take, it is mounted for a moment on the directory that place makes.
func (o Overlay) Mount(place func() (dir string, release func(), err error)) (*os.File, error) {
	if !OverlayAppends() {
		return o.MountOld(place)
	}
	fsfd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen overlay: %w", err)
	}
	defer func() { _ = unix.Close(fsfd) }()
	err = o.configure(fsfd)
	if errors.Is(err, unix.EINVAL) {
		return o.MountOld(place)
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

// OverlayAppends says whether overlayfs takes its layers one by one through fsconfig (lowerdir+, Linux 6.8). Before Linux 6.6
// fsconfig takes whatever it is told, and the mount fails: so an option that nobody knows has to be refused, too.
var OverlayAppends = sync.OnceValue(func() bool {
	fsfd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return true // The mount will tell what is wrong.
	}
	defer func() { _ = unix.Close(fsfd) }()
	return unix.FsconfigSetString(fsfd, "no such option", "") != nil && unix.FsconfigSetString(fsfd, "lowerdir+", "/") == nil
})

// configure tells overlayfs its options. Renamed directories and files copied up by half would make layers that no
// archive can express, whatever the host's defaults are.
func (o Overlay) configure(fsfd int) error {
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
	if o.Volatile && o.Upper != "" {
		if err := unix.FsconfigSetFlag(fsfd, "volatile"); err != nil {
			return err
		}
	}
	if o.UserXattr {
		return unix.FsconfigSetFlag(fsfd, "userxattr")
	}
	return nil
}

// MountOld is Mount by mount(2): it mounts, opens and unmounts at once, so that only the descriptor holds the mount.
func (o Overlay) MountOld(place func() (string, func(), error)) (*os.File, error) {
	data, err := o.oldOptions()
	if err != nil {
		return nil, err
	}
	at, release, err := place()
	if err != nil {
		return nil, err
	}
	defer release()
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

func (o Overlay) oldOptions() (string, error) {
	escape := strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`)
	lower := make([]string, len(o.Lower))
	for i, dir := range o.Lower {
		lower[i] = escape.Replace(dir)
	}
	data := "index=off,lowerdir=" + strings.Join(lower, ":")
	if o.Upper != "" {
		data += ",upperdir=" + escape.Replace(o.Upper) + ",workdir=" + escape.Replace(o.Work)
		if o.Volatile {
			data += ",volatile"
		}
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
