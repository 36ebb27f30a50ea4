package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/archive"
	"github.com/kistdev/kist/internal/content"
	"github.com/kistdev/kist/internal/sys"
)

// CommitOptions for Commit.
type CommitOptions struct {
	// Epoch, when set, is the latest time that what was made may have: later ones become it.
	Epoch *time.Time
	// Hold, when set, holds the new layer before Collect can see it.
	Hold *Hold
	// Under, when set, is a layer (see MayUnder) that has whatever the writable layer lacks: the two together are the new
	// layer, and this one stays as long as that does. It must be held. If the writable layer takes something away, or has
	// something that is the same in the layers that it stands on, the error is an errdefs.ErrFailedPrecondition.
	Under digest.Digest
	// Like, when set, is a layer over the same one that is expected to be much like the new one: what both begin with is not
	// hashed again. It must be held.
	Like digest.Digest
}

// Committed is a layer made of a writable one.
type Committed struct {
	// DiffID is empty if nothing was changed: there is no layer then.
	DiffID digest.Digest
	// Size is the bytes that it occupies on disk.
	Size int64
}

// Commit makes a layer of the writable layer id and ends it: its directory becomes the layer's, nothing is copied. It must
// not be mounted. What does not change anything is no part of the layer: whiteouts that hide nothing, files that were
// copied up and left as they were, directories in which something was made and removed again. If Commit fails, the
// writable layer may still be there, to be removed.
func (s *Store) Commit(ctx context.Context, id string, o CommitOptions) (Committed, error) {
	c, err := s.commit(ctx, id, o)
	if err != nil {
		return Committed{}, content.ExplainFull(s.dir, fmt.Errorf("commit root filesystem %s: %w", id, err))
	}
	return c, nil
}

func (s *Store) commit(ctx context.Context, id string, o CommitOptions) (Committed, error) {
	p, err := s.root(id)
	if err != nil {
		return Committed{}, err
	}
	if p.ReadOnly {
		return Committed{}, s.Remove(ctx, id)
	}
	root, err := sys.OpenRoot(s.dir + "/c/" + id + "/u")
	if err != nil {
		return Committed{}, err
	}
	defer root.Close()
	same, err := p.rootSame(root)
	if err != nil {
		return Committed{}, err
	}
	t := &settler{ctx: ctx, lower: s.image(p), epoch: o.Epoch, seen: make(map[uint64]struct{})}
	kept, err := t.top(root.Fd())
	if err != nil {
		return Committed{}, err
	}
	if kept == 0 && same && o.Under == "" {
		return Committed{}, s.Remove(ctx, id)
	}
	l := &unpacked{layerMeta: layerMeta{Size: t.size, Boot: s.boot, Created: time.Now().UnixNano()}}
	if !same {
		st, err := root.Stat(".")
		if err != nil {
			return Committed{}, err
		}
		l.Root = &rootMeta{Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid)}
	}
	if o.Under != "" {
		return s.commitOver(ctx, id, root, l, t, o)
	}
	l.Plain, l.Linked = !t.hides, t.linked
	if err := s.sum(ctx, id, root, l); err != nil {
		return Committed{}, err
	}
	return Committed{l.DiffID, l.Size}, s.become(id, l, o.Hold)
}

// sum finds the digest and length of a layer's tar, and leaves marks for layers that are put over it. Files with several
// names keep it from that: the second of them has to know of the first.
func (s *Store) sum(ctx context.Context, id string, root *sys.Root, l *unpacked) error {
	sum := newSummer()
	opts := s.tarOptions(l)
	if l.Plain && !l.Linked && l.Root == nil {
		opts.Mark, opts.MarkEvery = sum.mark, markEvery
	}
	err := archive.Tar(ctx, root, "/", sum.start(), opts)
	l.DiffID, l.Tar = sum.finish()
	if err != nil || l.Tar < marksFrom || len(sum.marks) == 0 {
		return err
	}
	return s.writeMarks("c/"+id+"/k", marks{l.DiffID, sum.marks})
}

// tarOptions are how a layer that was made here is archived.
func (s *Store) tarOptions(l *unpacked) archive.TarOptions {
	return archive.TarOptions{Upper: true, UserXattr: s.userXattr, NoRoot: l.Root == nil, Still: true}
}

// become makes the writable layer id the layer l. From the first rename on there is no such writable layer; what a crash
// leaves is thrown away when the store is opened next.
func (s *Store) become(id string, l *unpacked, h *Hold) error {
	tmp := "t/" + randomName()
	s.mu.Lock()
	err := unix.Renameat2(s.fd, "c/"+id, s.fd, tmp, unix.RENAME_NOREPLACE)
	if err == nil {
		delete(s.roots, id)
	}
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("end it: %w", err)
	}
	err = s.convert(tmp, l)
	if err == nil {
		err = s.publish(tmp, l, h)
	}
	if err != nil {
		err = errors.Join(err, s.throwAway(tmp))
	}
	return err
}

// convert turns a writable layer's directory into a layer's.
func (s *Store) convert(tmp string, l *unpacked) error {
	if err := unix.Renameat(s.fd, tmp+"/u", s.fd, tmp+"/d"); err != nil {
		return err
	}
	if err := s.throwAway(tmp + "/w"); err != nil {
		return err
	}
	if err := unix.Unlinkat(s.fd, tmp+"/m", 0); err != nil {
		return err
	}
	return s.writeMeta(tmp+"/m", &l.layerMeta)
}

// Empty is the diff id of a layer in which nothing is: a tar of nothing but its end marker. The store has it always, and
// it takes no place in a stack. Steps of a build that change nothing have it, so that an image's history tells of them.
const Empty digest.Digest = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"

// emptyTar is that tar.
var emptyTar [1024]byte

// Created is when the layer was made by Commit; zero for others.
func (s *Store) Created(diffID digest.Digest) time.Time {
	l, err := s.made(diffID)
	if err != nil || l.Created == 0 {
		return time.Time{}
	}
	return time.Unix(0, l.Created).UTC()
}

// TarSize is how many bytes WriteTar writes. For a layer that was not made by Commit it is an errdefs.ErrNotFound.
func (s *Store) TarSize(diffID digest.Digest) (int64, error) {
	if diffID == Empty {
		return int64(len(emptyTar)), nil
	}
	l, err := s.made(diffID)
	if err != nil {
		return 0, err
	}
	return l.Tar, nil
}

func (s *Store) made(diffID digest.Digest) (*unpacked, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.layers[diffID]
	switch {
	case l == nil:
		return nil, errNoLayer(diffID)
	case l.Tar == 0:
		return nil, fmt.Errorf("layer %s was not made here, so its tar cannot be made again: %w", diffID, errdefs.ErrNotFound)
	}
	return l, nil
}

// WriteTar writes a layer that Commit made as the tar of which its diff id is the digest, byte for byte. If the layer's
// files are no longer what they were, the error is an errdefs.ErrDataLoss, at the end. The layer must be held.
func (s *Store) WriteTar(ctx context.Context, diffID digest.Digest, w io.Writer) error {
	if diffID == Empty {
		_, err := w.Write(emptyTar[:])
		return err
	}
	l, err := s.made(diffID)
	if err != nil {
		return err
	}
	root, opts, closeTree, err := s.openTree(l)
	if err != nil {
		return fmt.Errorf("write layer %s: %w", diffID, err)
	}
	defer closeTree()
	sum := newSummer().start()
	err = archive.Tar(ctx, root, "/", io.MultiWriter(w, sum), opts)
	got, _ := sum.finish()
	if err != nil {
		return fmt.Errorf("write layer %s: %w", diffID, err)
	}
	if got != diffID {
		return fmt.Errorf("write layer %s: its files were changed, they are %s now: %w", diffID, got, errdefs.ErrDataLoss)
	}
	return nil
}

// Clamp makes a layer of another one's files, in which nothing is later than epoch, and returns its diff id. If nothing was
// later, it may be the same layer.
func (s *Store) Clamp(ctx context.Context, diffID digest.Digest, epoch time.Time, h *Hold) (digest.Digest, error) {
	if diffID == Empty {
		return Empty, nil
	}
	s.mu.Lock()
	l := s.layers[diffID]
	s.mu.Unlock()
	if l == nil {
		return "", errNoLayer(diffID)
	}
	root, o, closeTree, err := s.openTree(l)
	if err != nil {
		return "", fmt.Errorf("rewrite times of layer %s: %w", diffID, err)
	}
	defer closeTree()
	o.Latest = &epoch
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := archive.Tar(ctx, root, "/", w, o)
		packed <- err
		w.CloseWithError(err)
	}()
	id, err := s.remake(ctx, l, r, h)
	r.CloseWithError(errStopped)
	if perr := <-packed; perr != nil && !errors.Is(perr, errStopped) {
		err = perr
	}
	if err != nil {
		return "", fmt.Errorf("rewrite times of layer %s: %w", diffID, err)
	}
	return id, nil
}

var errStopped = errors.New("the reader stopped")

// remake unpacks a tar that was made of a layer, as one that was made here.
func (s *Store) remake(ctx context.Context, of *unpacked, r io.Reader, h *Hold) (digest.Digest, error) {
	count := &counter{r: r}
	return s.unpackAs(ctx, count, h, func(l *unpacked) { l.Tar, l.Created = count.n, of.Created })
}

// counter counts what is read through it.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
