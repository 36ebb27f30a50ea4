package build

import (
	"context"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/client/llb"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/patternmatcher"
	fstypes "github.com/tonistiigi/fsutil/types"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/sys"
)

// Reference is a result that a frontend has asked for. It is made when it is first looked at.
type Reference struct {
	j    *job
	edge edge
	def  *pb.Definition
}

var _ gwclient.Reference = (*Reference)(nil)

// maxRead bounds what a frontend can read at once.
const maxRead = 64 << 20

// Definition is the graph that leads to the result.
func (r *Reference) Definition() *pb.Definition { return r.def }

// ToState is the result as a source of further graphs.
func (r *Reference) ToState() (llb.State, error) {
	op, err := llb.NewDefinitionOp(r.def)
	if err != nil {
		return llb.State{}, err
	}
	return llb.NewState(op), nil
}

// Evaluate makes the result.
func (r *Reference) Evaluate(ctx context.Context) error {
	_, err := r.j.solve(ctx, r.edge)
	return err
}

// ReadFile reads a file of the result.
func (r *Reference) ReadFile(ctx context.Context, req gwclient.ReadRequest) ([]byte, error) {
	var raw []byte
	err := r.look(ctx, req.Filename, func(root *sys.Root) error {
		f, err := root.OpenRegular(req.Filename)
		if err != nil {
			return err
		}
		defer f.Close()
		raw, err = readRange(f, req.Range)
		return err
	})
	if err == nil {
		r.j.noteDockerfile(raw)
	}
	return raw, err
}

func readRange(f *os.File, part *gwclient.FileRange) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	from, length := int64(0), st.Size()
	if part != nil {
		from = min(max(int64(part.Offset), 0), st.Size())
		length = st.Size() - from
		if part.Length > 0 {
			length = min(length, int64(part.Length))
		}
	}
	if length > maxRead {
		return nil, fmt.Errorf("%s has %d bytes: %w", f.Name(), length, errdefs.ErrInvalidArgument)
	}
	raw := make([]byte, length)
	n, err := f.ReadAt(raw, from)
	if n == len(raw) {
		err = nil
	}
	return raw[:n], err
}

// StatFile describes a file of the result; a last link is not followed.
func (r *Reference) StatFile(ctx context.Context, req gwclient.StatRequest) (*fstypes.Stat, error) {
	var found *fstypes.Stat
	err := r.look(ctx, req.Path, func(root *sys.Root) error {
		st, err := root.Lstat(req.Path)
		if err != nil {
			return err
		}
		found = describe(root, req.Path, st)
		return nil
	})
	return found, err
}

// ReadDir lists a directory of the result.
func (r *Reference) ReadDir(ctx context.Context, req gwclient.ReadDirRequest) ([]*fstypes.Stat, error) {
	var list []*fstypes.Stat
	err := r.look(ctx, req.Path, func(root *sys.Root) error {
		dir, err := root.Open(req.Path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer dir.Close()
		names, err := dir.Readdirnames(-1)
		if err != nil {
			return err
		}
		for _, name := range names {
			if req.IncludePattern != "" {
				if ok, err := path.Match(req.IncludePattern, name); err != nil || !ok {
					continue
				}
			}
			if st, err := root.Lstat(path.Join(req.Path, name)); err == nil {
				list = append(list, describe(root, path.Join(req.Path, name), st))
			}
		}
		return nil
	})
	return list, err
}

func describe(root *sys.Root, name string, st unix.Stat_t) *fstypes.Stat {
	s := &fstypes.Stat{
		Path: path.Base(name), Mode: uint32(sys.FileMode(st.Mode)), Uid: st.Uid, Gid: st.Gid, Size: st.Size, ModTime: st.Mtim.Nano(),
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		s.Linkname, _ = root.Readlink(name) // It may have gone; then nothing is told.
	}
	return s
}

// look makes the result and opens it. A file that the context does not give is not there.
func (r *Reference) look(ctx context.Context, name string, fn func(*sys.Root) error) error {
	res, err := r.j.solve(ctx, r.edge)
	if err != nil {
		return err
	}
	wrap := func(err error) error {
		if err == nil {
			return nil
		}
		return &os.PathError{Op: "open", Path: strings.TrimPrefix(name, "/"), Err: err}
	}
	if l := res.Local; l != nil {
		if hidden, err := patternmatcher.MatchesOrParentMatches(strings.TrimPrefix(path.Clean("/"+name), "/"), l.Filter.Exclude); err == nil && hidden {
			return wrap(unix.ENOENT)
		}
		root, err := sys.OpenRoot(l.Dir)
		if err != nil {
			return err
		}
		defer root.Close()
		return wrap(fn(root))
	}
	root, done, err := r.j.b.open(ctx, res)
	if err != nil {
		return err
	}
	defer done()
	return wrap(fn(root))
}

// open mounts a stack of layers for looking.
func (b *Builder) open(ctx context.Context, res result) (*sys.Root, func(), error) {
	id := newID()
	if _, err := b.cfg.Layers.Prepare(ctx, id, res.Layers, layer.PrepareOptions{ReadOnly: true, Bare: true}); err != nil {
		return nil, nil, err
	}
	remove := func() { _ = b.cfg.Layers.Remove(context.WithoutCancel(ctx), id) } // Open drops what stays.
	root, err := b.cfg.Layers.OpenView(id)
	if err != nil {
		remove()
		return nil, nil, err
	}
	return root, func() { _ = root.Close(); remove() }, nil
}
