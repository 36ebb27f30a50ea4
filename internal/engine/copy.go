package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/sys"
)

// PutArchiveOptions for PutArchive.
type PutArchiveOptions struct{ NoOverwriteDirNonDir, CopyUIDGID bool }

// StatPath describes a file of the container.
func (e *Engine) StatPath(_ context.Context, name, file string) (*docker.PathStat, error) {
	c, err := e.index.find(name)
	if err != nil {
		return nil, err
	}
	v, err := e.open(c, file)
	if err != nil {
		return nil, err
	}
	defer v.close()
	return v.stat(c, file)
}

func (v *view) stat(c *container, file string) (*docker.PathStat, error) {
	st, err := v.root.Lstat(v.name)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK && wantsDir(file) {
		st, err = v.root.Stat(v.name)
	}
	if err != nil {
		return nil, v.failure(c, file, err)
	}
	s := &docker.PathStat{
		Name: path.Base(path.Clean("/" + file)), Size: st.Size, Mode: sys.FileMode(st.Mode),
		Mtime: time.Unix(st.Mtim.Unix()),
	}
	if s.Mode&os.ModeSymlink != 0 {
		if s.LinkTarget, err = v.root.Readlink(v.name); err != nil {
			return nil, v.failure(c, file, err)
		}
		if !path.IsAbs(s.LinkTarget) {
			s.LinkTarget = path.Join(path.Dir(path.Clean("/"+file)), s.LinkTarget)
		}
	}
	return s, nil
}

// wantsDir says that the path means what a last link leads to.
func wantsDir(file string) bool { return strings.HasSuffix(file, "/") || strings.HasSuffix(file, "/.") }

// failure turns a file that is not there into docker's error.
func (v *view) failure(c *container, file string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		d, _ := c.look()
		return &fault.Error{
			Code: "path-not-in-container", What: fmt.Sprintf("there is no %s in container %s", file, d.Name),
			Words: fmt.Sprintf("Could not find the file %s in container %s", file, c.id), Class: errdefs.ErrNotFound,
			Try: fmt.Sprintf("kist exec %s ls %s, or kist diff %s", d.Name, path.Dir(file), d.Name),
		}
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%s is on a read-only file system: %w", file, errdefs.ErrPermissionDenied)
	}
	return err
}

// GetArchive writes a file or directory of the container as a tar. begin is called when it is known to be there.
func (e *Engine) GetArchive(ctx context.Context, name, file string, begin func(*docker.PathStat) (io.Writer, error)) error {
	c, err := e.index.find(name)
	if err != nil {
		return err
	}
	v, err := e.open(c, file)
	if err != nil {
		return err
	}
	defer v.close()
	st, err := v.stat(c, file)
	if err != nil {
		return err
	}
	w, err := begin(st)
	if err != nil {
		return err
	}
	e.emit(c, events.ActionArchivePath, map[string]string{"path": file})
	o := archive.TarOptions{Name: st.Name}
	source := v.name
	if clean := path.Clean("/" + file); clean == "/" || strings.HasSuffix(file, "/.") {
		o.Name = ""
	}
	if wantsDir(file) && !wantsDir(source) {
		source += "/"
	}
	return archive.Tar(ctx, v.root, source, w, o)
}

// PutArchive unpacks a tar, compressed or not, into a directory of the container.
func (e *Engine) PutArchive(ctx context.Context, name, dir string, tar io.Reader, o PutArchiveOptions) error {
	c, err := e.index.find(name)
	if err != nil {
		return err
	}
	v, err := e.open(c, dir+"/")
	if err != nil {
		return err
	}
	defer v.close()
	st, err := v.root.Stat(v.name)
	if err != nil {
		err = v.failure(c, dir, err)
		if f, ok := fault.As(err); ok {
			d, _ := c.look()
			f.Try = fmt.Sprintf("kist exec %s mkdir -p %s", d.Name, path.Clean(dir))
		}
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return invalid("extraction point is not a directory")
	}
	d, _ := c.look()
	if v.readOnly || d.HostConfig.ReadonlyRootfs && onRoot(d, dir) {
		return fmt.Errorf("container rootfs is marked read-only: %w", errdefs.ErrPermissionDenied)
	}
	options := archive.UntarOptions{NoOverwriteDirNonDir: o.NoOverwriteDirNonDir}
	if o.CopyUIDGID && d.Config.User != "" {
		u, err := e.user(d, d.Config.User)
		if err != nil {
			return err
		}
		options.Owner = &archive.Owner{UID: int(u.UID), GID: int(u.GID)}
	}
	plain, _, err := archive.Decompress(tar)
	if err != nil {
		return err
	}
	defer func() { _ = plain.Close() }()
	if _, err := archive.Untar(ctx, v.root, v.name, plain, options); err != nil {
		return v.failure(c, dir, err)
	}
	e.emit(c, events.ActionExtractToDir, map[string]string{"path": dir})
	return nil
}

// onRoot says that nothing is mounted over the directory.
func onRoot(d *definition, dir string) bool {
	clean := path.Clean("/" + dir)
	for target := range d.HostConfig.Tmpfs {
		if t := path.Clean(target); clean == t || strings.HasPrefix(clean, t+"/") {
			return false
		}
	}
	for _, m := range d.Mounts {
		if clean == m.Target || strings.HasPrefix(clean, m.Target+"/") {
			return false
		}
	}
	return true
}
