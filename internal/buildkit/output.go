package buildkit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/session/filesync"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"
	"google.golang.org/grpc/codes"

	"github.com/kistdev/kist/internal/build"
)

// Output implements build.Session.
func (c *clientSession) Output(ctx context.Context, export int, attrs map[string]string) (io.WriteCloser, error) {
	w, err := filesync.CopyFileWriter(ctx, attrs, export, c.caller)
	if err != nil {
		if grpcerrors.Code(err) == codes.AlreadyExists {
			return nil, fmt.Errorf("the client has the output already: %w", errdefs.ErrAlreadyExists)
		}
		return nil, fmt.Errorf("send output to the client: %w", err)
	}
	return w, nil
}

// OutputTrees implements build.Session.
func (c *clientSession) OutputTrees(ctx context.Context, export int, trees []build.Tree) error {
	for i := range trees {
		if err := c.sendTree(ctx, export, &trees[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *clientSession) sendTree(ctx context.Context, export int, t *build.Tree) error {
	f, release, err := treeFS(t)
	if err != nil {
		return err
	}
	err = filesync.CopyToCaller(ctx, f, export, c.caller, func(int, bool) {})
	if err = errors.Join(err, release()); err != nil {
		return fmt.Errorf("send files to the client: %w", err)
	}
	return nil
}

// treeFS is a tree as fsutil sends it. release closes what was opened for it.
func treeFS(t *build.Tree) (_ fsutil.FS, release func() error, err error) {
	f := &treeFiles{files: t.Files}
	release = func() error { return nil }
	if t.Root != nil {
		// Opened through the descriptor, not by what that reads as: the tree may be mounted nowhere.
		osRoot, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", t.Root.Fd()))
		if err != nil {
			return nil, nil, fmt.Errorf("output tree: %w", err)
		}
		root := fsutil.NewRoot(osRoot)
		f.root, release = fsutil.WithHardlinkReset(fsutil.NewRootFS(root)), root.Close
	}
	if t.Prefix == "" {
		return f, release, nil
	}
	dir := &types.Stat{Path: t.Prefix, Mode: uint32(os.ModeDir | 0o755), ModTime: time.Now().UnixNano()}
	sub, err := fsutil.SubDirFS([]fsutil.Dir{{Stat: dir, FS: f}})
	if err != nil {
		return nil, nil, fmt.Errorf("output tree: %w", errors.Join(err, release()))
	}
	return sub, release, nil
}

// treeFiles is a directory with further files beside it, at its top.
type treeFiles struct {
	root  fsutil.FS // nil: only files
	files map[string][]byte
}

// Walk implements fsutil.FS: in lexical order, the further files among the others.
func (f *treeFiles) Walk(ctx context.Context, target string, fn fs.WalkDirFunc) error {
	pending := make([]string, 0, len(f.files))
	for name := range f.files {
		pending = append(pending, name)
	}
	slices.Sort(pending)
	before := func(p string) error {
		for len(pending) > 0 && (p == "" || pending[0] < p) {
			name := pending[0]
			pending = pending[1:]
			if err := fn(name, f.entry(name), nil); err != nil {
				return err
			}
		}
		return nil
	}
	if f.root != nil {
		err := f.root.Walk(ctx, target, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return fn(p, d, err)
			}
			if _, ok := f.files[p]; ok {
				return nil // Told in its turn.
			}
			if !strings.Contains(p, "/") {
				if err := before(p); err != nil {
					return err
				}
			}
			return fn(p, d, nil)
		})
		if err != nil {
			return err
		}
	}
	return before("")
}

func (f *treeFiles) entry(name string) fs.DirEntry {
	st := &types.Stat{Path: name, Mode: 0o644, Size: int64(len(f.files[name])), ModTime: time.Now().UnixNano()}
	return &fsutil.DirEntryInfo{Stat: st}
}

// Open implements fsutil.FS.
func (f *treeFiles) Open(name string) (io.ReadCloser, error) {
	if data, ok := f.files[path.Clean(name)]; ok {
		return io.NopCloser(bytes.NewReader(data)), nil
	}
	if f.root == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return f.root.Open(name)
}

// errNoClient answers for a build without a session.
func errNoClient(what string) error {
	return fmt.Errorf("%s: the build has no client to ask: %w", what, errdefs.ErrNotFound)
}
