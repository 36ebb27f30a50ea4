package fileop

import (
	"context"
	"errors"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/sys"
	"github.com/kistdev/kist/internal/treesum"
)

// Source is a tree that an operation reads: layers, the lowest first, or a directory in place. The zero value is an
// empty tree.
type Source struct {
	Layers []digest.Digest
	Local  *Local
}

// Local is a directory of the host, such as a build context. It is read once, as far as it is needed, and gives its files
// to root, as docker does. Share one Local between the steps of one build; a new build wants a new one.
type Local struct {
	// Dir is trusted; what is in it is not.
	Dir string
	// Key names the stat cache that remembers the digests of Dir's files between builds; empty uses none.
	Key    string
	Filter treesum.Filter

	mu   sync.Mutex // guards what follows
	root *sys.Root
	tree *treesum.Tree
	err  error
}

// open begins to read the directory, once.
func (l *Local) open(ctx context.Context, trees *treesum.Cache) (*treesum.Tree, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tree != nil || l.err != nil {
		return l.tree, l.err
	}
	if l.root, l.err = sys.OpenRoot(l.Dir); l.err != nil {
		return nil, l.err
	}
	l.tree, l.err = trees.Scan(ctx, l.root, l.Key, l.Filter)
	return l.tree, l.err
}

// save writes down what was learnt about the files until now, for the next build.
func (l *Local) save() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tree == nil {
		return nil
	}
	return l.tree.Close()
}

// Close saves, and gives back what is held open. Operations on the directory must have ended.
func (l *Local) Close() error {
	err := l.save()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.root != nil {
		err = errors.Join(err, l.root.Close())
		l.root, l.tree, l.err = nil, nil, errClosed
	}
	return err
}

var errClosed = errors.New("the directory is not read any more")

// view is a source opened for reading.
type view struct {
	tree *treesum.Tree
	// local files belong to root and may change while they are read.
	local bool
	root  *sys.Root // to be closed, nil for a Local's
}

// look opens a source. Its layers must be held until the view is closed.
func (o *Ops) look(ctx context.Context, src Source) (*view, error) {
	if src.Local != nil {
		tree, err := src.Local.open(ctx, o.trees)
		return &view{tree: tree, local: true}, err
	}
	root, err := o.layers.OpenStack(src.Layers)
	if err != nil {
		return nil, err
	}
	tree, err := o.trees.Scan(ctx, root, "", treesum.Filter{})
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &view{tree: tree, root: root}, nil
}

func (v *view) close() error {
	if v.root == nil {
		return nil
	}
	return v.root.Close()
}
