package treesum

import (
	"context"

	"golang.org/x/crypto/blake2b"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// Same says whether a description is still that of the node: of one that is settled, and no directory, the content is the same
// then. A directory's times count what is in it, see SameDirectory.
func (n *Node) Same(st *unix.Stat_t) bool {
	return st.Ino == n.Ino && st.Dev == n.Dev && st.Mode == n.Mode && st.Size == n.Size &&
		unix.TimespecToNsec(st.Mtim) == n.Mtime && unix.TimespecToNsec(st.Ctim) == n.Ctime
}

// SameDirectory says whether the open directory is the node, with the mode and the attributes that it was summed with.
func (n *Node) SameDirectory(fd int) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	if st.Ino != n.Ino || st.Dev != n.Dev || st.Mode != n.Mode {
		return false, nil
	}
	if !n.summed || n.settled && unix.TimespecToNsec(st.Ctim) == n.Ctime {
		return true, nil
	}
	now, err := withXattrs(blake2b.Sum256(nil), sys.FDPath(fd)+"/.")
	return now == n.sum, err
}

// Holds says whether an open file, a copy of the node perhaps, has the content that the node was summed with; path is where the
// attributes are that count. Of a node that was not summed, nobody can say.
func (n *Node) Holds(ctx context.Context, fd int, path string) (bool, error) {
	if !n.summed {
		return true, nil
	}
	h, err := blake2b.New256(nil)
	if err != nil {
		return false, err
	}
	buf := make([]byte, 256<<10)
	for off := int64(0); ; {
		m, err := unix.Pread(fd, buf, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return false, err
		}
		if m == 0 {
			break
		}
		h.Write(buf[:m])
		off += int64(m)
		if err := context.Cause(ctx); err != nil {
			return false, err
		}
	}
	var now sum
	h.Sum(now[:0])
	now, err = withXattrs(now, path)
	return now == n.sum, err
}

// Same says whether another selection has the same files, none of which was changed meanwhile: not even there and back again. The
// digests of both were asked for.
func (s *Selected) Same(other *Selected) bool {
	if len(s.Matches) != len(other.Matches) {
		return false
	}
	for i, m := range s.Matches {
		if m.Name != other.Matches[i].Name || !s.same(m.Node, other, other.Matches[i].Node) {
			return false
		}
	}
	return true
}

func (s *Selected) same(a *Node, other *Selected, b *Node) bool {
	if a.gone || b.gone || !a.summed || !b.summed || a.sum != b.sum || a.Mode != b.Mode || a.Ino != b.Ino || a.Dev != b.Dev {
		return false
	}
	if !a.IsDir() {
		return a.identity() == b.identity()
	}
	x, y := s.Kids(a), other.Kids(b)
	if len(x) != len(y) {
		return false
	}
	for i := range x {
		if x[i].Name != y[i].Name || !s.same(x[i], other, y[i]) {
			return false
		}
	}
	return true
}
