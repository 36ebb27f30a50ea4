package treesum

import (
	"context"
	"encoding/binary"
	"hash"
	"iter"

	"github.com/opencontainers/go-digest"
	"golang.org/x/crypto/blake2b"
	"golang.org/x/sys/unix"
)

// Digest is the digest of what is selected.
func (t *Tree) Digest(ctx context.Context, sel Selection) (digest.Digest, error) {
	s, err := t.sum(ctx, sel)
	if err != nil {
		return "", err
	}
	h, err := blake2b.New256(nil)
	if err != nil {
		return "", err
	}
	w := &describer{out: h, root: sel.Root}
	for _, m := range s.Matches {
		w.node(m.Node, m.Name)
		w.kids(s, m.Node, m.Name)
	}
	w.flush()
	return digest.FromBytes(h.Sum(nil)), nil
}

// sum selects and sees to it that everything selected has its sum.
func (t *Tree) sum(ctx context.Context, sel Selection) (*Selected, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, err := t.choose(ctx, sel)
	if err != nil {
		return nil, err
	}
	return s, t.sumAll(ctx, s)
}

// describer writes down all that counts of files.
type describer struct {
	out  hash.Hash
	buf  []byte
	root bool
}

func (w *describer) kids(s *Selected, n *Node, name string) {
	for _, k := range s.Kids(n) {
		if k.gone {
			continue
		}
		sub := join(name, k.Name)
		w.node(k, sub)
		if k.IsDir() {
			w.kids(s, k, sub)
		}
	}
}

// node describes one file. Lengths are told, so that no two trees have the same description.
func (w *describer) node(n *Node, name string) {
	w.buf = binary.AppendUvarint(w.buf, uint64(len(name)))
	w.buf = append(w.buf, name...)
	w.buf = binary.AppendUvarint(w.buf, uint64(n.Mode))
	uid, gid := n.UID, n.GID
	if w.root {
		uid, gid = 0, 0
	}
	w.buf = binary.AppendUvarint(w.buf, uint64(uid))
	w.buf = binary.AppendUvarint(w.buf, uint64(gid))
	var dev uint64
	if kind := n.Mode & unix.S_IFMT; kind == unix.S_IFCHR || kind == unix.S_IFBLK {
		dev = n.Rdev
	}
	w.buf = binary.AppendUvarint(w.buf, dev)
	w.buf = append(w.buf, n.sum[:]...)
	if len(w.buf) > 32<<10 {
		w.flush()
	}
}

func (w *describer) flush() {
	w.out.Write(w.buf)
	w.buf = w.buf[:0]
}

// Files are the paths of what is selected ("etc/passwd") in order, directories too, each with a digest of the one file.
func (t *Tree) Files(ctx context.Context, sel Selection) (iter.Seq2[string, digest.Digest], error) {
	s, err := t.sum(ctx, sel)
	if err != nil {
		return nil, err
	}
	return func(yield func(string, digest.Digest) bool) {
		w := &describer{root: sel.Root}
		for _, m := range s.Matches {
			if !w.each(s, m.Node, m.Node.Path(), yield) {
				return
			}
		}
	}, nil
}

func (w *describer) each(s *Selected, n *Node, name string, yield func(string, digest.Digest) bool) bool {
	if n.gone {
		return true
	}
	w.node(n, "")
	one := blake2b.Sum256(w.buf)
	w.buf = w.buf[:0]
	if name != "" && !yield(name, digest.NewDigestFromBytes(digest.SHA256, one[:])) {
		return false
	}
	for _, k := range s.Kids(n) {
		if !w.each(s, k, join(name, k.Name), yield) {
			return false
		}
	}
	return true
}
