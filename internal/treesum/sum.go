package treesum

import (
	"context"
	"encoding/binary"
	"errors"
	"hash"
	"os"
	"runtime"
	"slices"

	"golang.org/x/crypto/blake2b"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// sum is the digest of what a file holds.
type sum [32]byte

// batch is files of one directory, to be read by one goroutine.
type batch struct {
	dir   *Node
	files []*Node
}

// batchSize is how many files share the opening of their directory.
const batchSize = 64

// sumAll gives a sum to everything selected: from the stat cache where it knows one, by reading elsewhere. t.mu is held.
func (t *Tree) sumAll(ctx context.Context, s *Selected) error {
	todo := &queue{t: t}
	for _, m := range s.Matches {
		todo.add(m.Node)
		todo.below(s, m.Node)
	}
	if len(todo.batches) == 0 {
		return nil
	}
	g, gctx := errgroup.WithContext(ctx)
	work := make(chan batch)
	g.Go(func() error {
		defer close(work)
		for _, b := range todo.batches {
			select {
			case work <- b:
			case <-gctx.Done():
				return context.Cause(gctx)
			}
		}
		return nil
	})
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error { return t.reader(gctx, work) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, b := range todo.batches {
		for _, n := range b.files {
			n.settled = !n.gone && n.summed && n.sure(t.began)
			if n.settled && t.cache != nil {
				t.cache.put(n)
			}
		}
	}
	return nil
}

// queue collects what must be read.
type queue struct {
	t       *Tree
	batches []batch
}

func (q *queue) below(s *Selected, n *Node) {
	for _, k := range s.Kids(n) {
		q.add(k)
		if k.IsDir() {
			q.below(s, k)
		}
	}
}

func (q *queue) add(n *Node) {
	if n.summed || q.t.cache != nil && q.t.cache.get(n) {
		return
	}
	if i := len(q.batches) - 1; i >= 0 && q.batches[i].dir == n.parent && len(q.batches[i].files) < batchSize {
		q.batches[i].files = append(q.batches[i].files, n)
		return
	}
	q.batches = append(q.batches, batch{n.parent, []*Node{n}})
}

func (t *Tree) reader(ctx context.Context, work <-chan batch) error {
	h, err := blake2b.New256(nil)
	if err != nil {
		return err
	}
	r := &reader{hash: h, buf: make([]byte, 256<<10), classes: map[uint64]class{}}
	for b := range work {
		if err := t.readBatch(ctx, r, b); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tree) readBatch(ctx context.Context, r *reader, b batch) error {
	if b.dir == nil { // the root of the tree
		fd, err := t.openDir(t.top)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		t.top.sum, err = r.bare(nil, sys.FDPath(fd)+"/.")
		t.top.summed, t.top.trust = err == nil, r.class(fd, t.top.Dev).bare()
		return err
	}
	fd, err := t.openDir(b.dir)
	if err != nil {
		for _, n := range b.files {
			n.gone = true
		}
		return t.vanished(b.dir, err)
	}
	defer unix.Close(fd)
	for _, n := range b.files {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		err := r.node(ctx, fd, b.dir.Dev, n)
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO), errors.Is(err, errReplaced):
			n.gone = true
		case err != nil:
			return &os.PathError{Op: "read", Path: "/" + n.Path(), Err: err}
		}
		n.summed = true
	}
	return nil
}

// errReplaced says that a file is no regular file any more.
var errReplaced = errors.New("replaced while it was read")

// reader is what one goroutine reads files with.
type reader struct {
	hash    hash.Hash
	buf     []byte
	classes map[uint64]class // by device
}

// class is that of the file system that an open file is on.
func (r *reader) class(fd int, dev uint64) class {
	c, known := r.classes[dev]
	if !known {
		var st unix.Statfs_t
		if err := unix.Fstatfs(fd, &st); err == nil {
			c = classes[st.Type]
		}
		r.classes[dev] = c
	}
	return c
}

// node sums what one file in the open directory dirfd, which is on the device dev, holds.
func (r *reader) node(ctx context.Context, dirfd int, dev uint64, n *Node) (err error) {
	path := sys.FDPath(dirfd) + "/" + n.Name
	if n.trust = untold; n.Dev == dev {
		n.trust = r.class(dirfd, dev).bare()
	}
	switch {
	case n.IsRegular():
		return r.regular(ctx, dirfd, n)
	case n.IsLink():
		if n.target == "" {
			if n.target, err = sys.ReadlinkAt(dirfd, n.Name); err != nil {
				return err
			}
		}
		n.sum, err = r.bare([]byte(n.target), path)
	default:
		n.sum, err = r.bare(nil, path)
	}
	return err
}

// regular reads a file. Its description is taken again, as it may have changed since the directory was read.
func (r *reader) regular(ctx context.Context, dirfd int, n *Node) error {
	fd, err := openFile(dirfd, n.Name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	n.trust = r.class(fd, n.Dev).trustOf(fd) // Before the times are asked for, see there.
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, statxMask, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errReplaced
	}
	var now Node
	if now.fill(&st); now.identity() != n.identity() || now.Mode != n.Mode || now.UID != n.UID || now.GID != n.GID {
		if now.Dev != n.Dev { // Then it is another file system that was asked.
			n.trust = untold
		}
		n.fill(&st)
	}
	r.hash.Reset()
	for {
		m, err := unix.Read(fd, r.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if m == 0 {
			break
		}
		r.hash.Write(r.buf[:m])
		if m < len(r.buf) && n.Size < int64(len(r.buf)) {
			break // a small file, and that was its end
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
	r.hash.Sum(n.sum[:0])
	var none [1]byte
	size, err := unix.Flistxattr(fd, none[:0])
	if err != nil || size == 0 {
		return nil // none, or a file system without
	}
	n.sum, err = withXattrs(n.sum, sys.FDPath(dirfd)+"/"+n.Name)
	return err
}

// openFile opens what should be a regular file: nothing that waits, no link, and without a trace where that is possible.
func openFile(dirfd int, name string) (int, error) {
	const how = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC | unix.O_NOCTTY
	for {
		fd, err := unix.Openat(dirfd, name, how|unix.O_NOATIME, 0)
		if err == unix.EPERM {
			fd, err = unix.Openat(dirfd, name, how, 0)
		}
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// bare sums a few bytes and the extended attributes that count.
func (r *reader) bare(data []byte, path string) (sum, error) {
	return withXattrs(blake2b.Sum256(data), path)
}

// withXattrs adds the extended attributes that count, if there are any, to the sum of the rest.
func withXattrs(s sum, path string) (sum, error) {
	names, err := sys.ListXattrs(path)
	if err != nil {
		return s, err
	}
	slices.Sort(names)
	var buf []byte
	for _, name := range names {
		if !sys.PortableXattr(name) {
			continue
		}
		value, err := sys.GetXattr(path, name)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return s, err
		}
		buf = binary.AppendUvarint(buf, uint64(len(name)))
		buf = append(buf, name...)
		buf = binary.AppendUvarint(buf, uint64(len(value)))
		buf = append(buf, value...)
	}
	if buf == nil {
		return s, nil
	}
	return blake2b.Sum256(append(s[:], buf...)), nil
}
