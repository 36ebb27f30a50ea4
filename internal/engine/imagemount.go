package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/undo"
)

// rootMark separates a container's id from the number of an image mounted in it, in the layer store's names.
const rootMark = '-'

// ownerOf is the container that a root filesystem of the layer store belongs to.
func ownerOf(root string) string {
	id, _, _ := strings.Cut(root, string(rootMark))
	return id
}

// ensureImage finds the image that is to be mounted, and keeps its layers for as long as the container is there.
func (e *Engine) ensureImage(ctx context.Context, root string, m *mountPoint, u *undo.Stack) error {
	image, err := e.cfg.Images.For(ctx, m.Name, nil)
	if errdefs.IsNotFound(err) {
		// Not the class of an unknown image: clients would pull the container's own, and come again.
		return &fault.Error{
			Code: "no-such-image-to-mount", What: fmt.Sprintf("cannot mount image %s at %s", withTag(m.Name), m.Target),
			Cause: "it is not here", Try: "kist pull " + m.Name, Class: errdefs.ErrInvalidArgument,
		}
	}
	if err != nil {
		return err
	}
	if _, err := e.cfg.Layers.Prepare(ctx, root, image.Layers, layer.PrepareOptions{ReadOnly: true, Bare: true}); err != nil {
		return err
	}
	u.Push("remove mounted image", func(ctx context.Context) error { return e.cfg.Layers.Remove(ctx, root) })
	m.Root = root
	return nil
}

// imageDir is where the images of a container are mounted on the host while it runs.
func (e *Engine) imageDir(id string) string { return filepath.Join(e.cfg.ExecRoot, "images", id) }

// mountImage mounts an image for a container, and returns where.
func (e *Engine) mountImage(id string, m *mountPoint) (string, error) {
	dir := filepath.Join(e.imageDir(id), m.Root)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	root, err := e.cfg.Layers.OpenRoot(m.Root)
	if err != nil {
		return "", err
	}
	err = unix.MoveMount(int(root.File().Fd()), "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
	if err = errors.Join(err, root.Close()); err != nil {
		return "", fmt.Errorf("mount image %s: %w", m.Name, err)
	}
	return dir, nil
}

// unmountImages takes down a container's directory of mounted images; one that is not there is no error.
func unmountImages(dir string) error {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		place := filepath.Join(dir, entry.Name())
		for { // a start that was cut short may have mounted it before
			err := unix.Unmount(place, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
			if err == unix.EINVAL || err == unix.ENOENT {
				break
			}
			if err != nil {
				return fmt.Errorf("unmount image: %w", err)
			}
		}
		if err := os.Remove(place); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return os.Remove(dir)
}

// removeImages gives up the layers of the images that were mounted in a container.
func (e *Engine) removeImages(ctx context.Context, d *definition) error {
	var errs []error
	for i := range d.Mounts {
		if root := d.Mounts[i].Root; root != "" {
			errs = append(errs, e.cfg.Layers.Remove(ctx, root))
		}
	}
	return errors.Join(errs...)
}
