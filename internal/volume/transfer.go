package volume

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"

	"github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/sys"
)

// Export writes a volume's content as a tar, with owners, modes, times and attributes. begin is called when the volume is
// known to be there. What a container writes meanwhile is in it or not.
func (s *Store) Export(ctx context.Context, name string, begin func() (io.Writer, error)) (err error) {
	dir, release, err := s.enter(ctx, name, "export")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	root, err := sys.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("export volume %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	w, err := begin()
	if err != nil {
		return err
	}
	if err := archive.Tar(ctx, root, "/", w, archive.TarOptions{}); err != nil {
		return fmt.Errorf("export volume %s: %w", name, err)
	}
	return nil
}

// Import unpacks a tar, compressed or not, into a volume, which is made if it is not there. One that has something in it
// is refused, and left as it was, unless merge is set: then the tar's files replace those of the same name. A tar that
// breaks leaves a volume that was made for it as it was: not there.
func (s *Store) Import(ctx context.Context, name string, tar io.Reader, merge bool) (err error) {
	made, err := s.ensure(name, nil, nil)
	if err != nil {
		return err
	}
	if made {
		defer func() {
			if err != nil {
				err = errors.Join(err, s.Remove(context.WithoutCancel(ctx), name, true))
			}
		}()
	}
	dir, release, err := s.enter(ctx, name, "import")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	put := func(dir string) error { return unpack(ctx, dir, tar) }
	empty, err := isEmpty(dir)
	switch {
	case err != nil:
		return err
	case empty:
		err = s.fill(name, "", dir, put)
	case merge:
		err = put(dir)
	default:
		return &fault.Error{
			Code: "volume-not-empty", What: "cannot import into volume " + name, Cause: "it has files in it",
			Try: "kist volume import --merge " + name + ", or another name", Class: errdefs.ErrConflict,
		}
	}
	if err != nil {
		return fmt.Errorf("import into volume %s: %w", name, err)
	}
	if e, err := s.Inspect(ctx, name); err == nil && s.bus != nil {
		s.bus.Emit(events.VolumeEventType, "import", name, map[string]string{"driver": e.Driver})
	}
	return syncDir(s.path(name))
}

func unpack(ctx context.Context, dir string, tar io.Reader) error {
	buffered := bufio.NewReader(tar)
	if _, err := buffered.Peek(1); errors.Is(err, io.EOF) { // from a pipe whose beginning has failed
		return fmt.Errorf("the archive is empty: %w", errdefs.ErrInvalidArgument)
	}
	root, err := sys.OpenRoot(dir)
	if err != nil {
		return err
	}
	plain, _, err := archive.Decompress(buffered)
	if err != nil {
		return errors.Join(err, root.Close())
	}
	_, err = archive.Untar(ctx, root, "/", plain, archive.UntarOptions{Root: true})
	if err == nil {
		_, err = io.Copy(io.Discard, plain) // the checksum of what is compressed comes last
	}
	return errors.Join(err, plain.Close(), root.Close())
}
