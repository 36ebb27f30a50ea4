package layer

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// Share is what one layer has in a stack of them.
type Share struct {
	// Size is the bytes that its files occupy, Wasted those of them that nobody sees, because a later layer overwrites or
	// removes the files.
	Size, Wasted int64
	// Files are those that it adds, Removed the names that it takes away.
	Files, Removed int
	// Added are the directories that got the most, Waste the largest files and directories that nobody sees.
	Added, Waste []Amount
}

// Amount is what a path in a layer occupies.
type Amount struct {
	Path string
	Size int64
}

// amounts is how many of the largest are told.
const amounts = 5

// Shares measures layers, the lowest first, that are stacked. They must be held.
func (s *Store) Shares(ctx context.Context, layers []digest.Digest) ([]Share, error) {
	w := &waster{ctx: ctx, shares: make([]sharing, len(layers))}
	w.stack.prefix = xattrPrefix(s.userXattr)
	seen := map[digest.Digest]bool{}
	for i, id := range slices.Backward(layers) {
		w.shares[i].inodes, w.shares[i].by = map[inode]string{}, map[string]int64{}
		if seen[id] { // It counts where it is topmost.
			continue
		}
		seen[id] = true
		// What a layer lies over is a part of it.
		for part := id; part != "" && part != Empty; {
			s.mu.Lock()
			l := s.layers[part]
			s.mu.Unlock()
			if l == nil {
				return nil, errNoLayer(part)
			}
			w.stack.dirs = append(w.stack.dirs, s.dir+"/l/"+l.name+"/d")
			w.owner = append(w.owner, i)
			w.opaque = append(w.opaque, l.Opaque)
			part = l.Under
		}
	}
	top := make([]stratum, len(w.stack.dirs))
	hidden := false
	for i := range top {
		top[i] = stratum{i, hidden}
		hidden = hidden || w.opaque[i]
	}
	if err := w.dir("", top); err != nil {
		return nil, fmt.Errorf("measure layers: %w", err)
	}
	out := make([]Share, len(layers))
	for i := range out {
		out[i] = w.shares[i].result()
		size, err := s.Size(layers[i])
		if err != nil {
			return nil, err
		}
		out[i].Size = size
	}
	return out, nil
}

// waster walks all layers of a stack at once, directory by directory.
type waster struct {
	ctx    context.Context //nolint:containedctx // of one walk
	stack  stack
	owner  []int  // the layer that each directory of the stack belongs to
	opaque []bool // whether it hides all below it
	shares []sharing
}

// sharing is what is found of a layer.
type sharing struct {
	Share
	inodes map[inode]string // of files with several names: the name that was counted as waste, if one was
	by     map[string]int64 // bytes by directory, at most two names deep
}

// inode is a file of one of the directories of a stack, which may be on several devices.
type inode struct {
	dev, ino uint64
}

// stratum is a directory of the stack that takes part in a directory of the merged tree; hidden says that a later layer covers it.
type stratum struct {
	at     int
	hidden bool
}

// dir measures a directory of the merged tree, whose parts are in order, the topmost first.
func (w *waster) dir(name string, parts []stratum) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	type seen struct {
		covered bool      // by something that is no directory, or opaque
		below   []stratum // the directories of the name
	}
	names := map[string]*seen{}
	for _, p := range parts {
		dir := w.stack.dirs[p.at] + "/" + name
		list, err := readNames(unix.AT_FDCWD, dir)
		if err != nil {
			return err
		}
		for _, n := range list {
			var st unix.Stat_t
			if err := unix.Lstat(dir+"/"+n, &st); err != nil {
				return err
			}
			is := names[n]
			if is == nil {
				is = &seen{}
				names[n] = is
			}
			full := path.Join(name, n)
			hidden := p.hidden || is.covered
			if st.Mode&unix.S_IFMT != unix.S_IFDIR {
				w.file(p.at, full, &st, hidden || len(is.below) > 0)
				is.covered = true
				continue
			}
			w.count(p.at, full, st.Blocks*512, false)
			is.below = append(is.below, stratum{p.at, hidden})
			if hidden {
				continue
			}
			opaque, err := sys.IsOpaque(dir+"/"+n, w.stack.prefix)
			if err != nil {
				return err
			}
			is.covered = opaque
		}
	}
	for n, is := range names {
		if len(is.below) == 0 {
			continue
		}
		if err := w.below(path.Join(name, n), is.below); err != nil {
			return err
		}
	}
	return nil
}

// below measures what a directory holds. One that was hidden as a whole is one piece of waste.
func (w *waster) below(name string, parts []stratum) error {
	before := make([]int64, len(w.shares))
	for i := range w.shares {
		before[i] = w.shares[i].Wasted
	}
	deep := strings.Count(name, "/")
	if deep > maxDepth {
		return nil
	}
	if err := w.dir(name, parts); err != nil {
		return err
	}
	for _, p := range parts {
		if s := &w.shares[w.owner[p.at]]; p.hidden && s.Wasted > before[w.owner[p.at]] {
			s.Waste = slices.DeleteFunc(s.Waste, func(a Amount) bool { return strings.HasPrefix(a.Path, "/"+name+"/") })
			s.Waste = largest(append(s.Waste, Amount{"/" + name, s.Wasted - before[w.owner[p.at]]}))
			before[w.owner[p.at]] = s.Wasted
		}
	}
	return nil
}

// file counts what is no directory.
func (w *waster) file(at int, name string, st *unix.Stat_t, hidden bool) {
	s := &w.shares[w.owner[at]]
	if sys.IsWhiteout(st) {
		s.Removed++
		return
	}
	s.Files++
	if st.Nlink > 1 {
		id := inode{uint64(st.Dev), st.Ino} //nolint:unconvert // narrower on some architectures
		if hiddenAs, ok := s.inodes[id]; ok {
			if hiddenAs != "" && !hidden { // Another of its names can be seen.
				s.inodes[id] = ""
				s.Wasted -= st.Blocks * 512
				s.Waste = slices.DeleteFunc(s.Waste, func(a Amount) bool { return a.Path == hiddenAs })
			}
			return
		}
		s.inodes[id] = ""
		if hidden {
			s.inodes[id] = "/" + name
		}
	}
	w.count(at, name, st.Blocks*512, hidden)
}

func (w *waster) count(at int, name string, n int64, wasted bool) {
	s := &w.shares[w.owner[at]]
	s.by[topOf(name)] += n
	if wasted {
		s.Wasted += n
		if n > 0 {
			s.Waste = largest(append(s.Waste, Amount{"/" + name, n}))
		}
	}
}

// topOf is the directory that a path counts for: /usr/lib/x/y for /usr/lib, /etc/x for /etc.
func topOf(name string) string {
	parts := strings.SplitN(name, "/", 4)
	switch {
	case len(parts) > 2 && (parts[0] == "usr" || parts[0] == "var" || parts[0] == "opt" || parts[0] == "home"):
		return "/" + parts[0] + "/" + parts[1]
	default:
		return "/" + parts[0]
	}
}

// largest keeps the largest of a list that is a little too long.
func largest(list []Amount) []Amount {
	if len(list) <= 4*amounts {
		return list
	}
	slices.SortFunc(list, bySize)
	return list[:2*amounts]
}

func bySize(a, b Amount) int { return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Path, b.Path)) }

func (s *sharing) result() Share {
	r := s.Share
	for p, n := range s.by {
		if n > 0 {
			r.Added = append(r.Added, Amount{p, n})
		}
	}
	slices.SortFunc(r.Added, bySize)
	slices.SortFunc(r.Waste, bySize)
	r.Added, r.Waste = r.Added[:min(len(r.Added), amounts)], r.Waste[:min(len(r.Waste), amounts)]
	return r
}
