package treesum

import (
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// setFilter compiles the filter. Paths to follow are resolved in the whole tree, as what is excluded is still on the way.
func (t *Tree) setFilter(f Filter) error {
	include := slices.Clone(f.Include)
	if len(f.FollowPaths) > 0 {
		whole, err := newTree(t.root)
		if err != nil {
			return err
		}
		paths, everything, err := whole.followPaths(f.FollowPaths)
		if err != nil {
			return err
		}
		if !everything {
			include = append(include, paths...)
		}
		t.all = whole
	}
	var err error
	if t.inc, err = compile(include); err != nil {
		return err
	}
	if t.exc, err = compile(f.Exclude); err != nil {
		return err
	}
	t.plain = t.inc == nil && t.exc == nil
	return nil
}

// wanted says whether an entry may pass, before anything but its name is known.
func (t *Tree) wanted(n *Node, dir, name string, maybeDir bool) bool {
	if t.plain || maybeDir {
		return true
	}
	return t.passes(n, join(dir, name))
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// passes applies the filter to what is no directory.
func (t *Tree) passes(n *Node, name string) bool {
	if t.inc != nil {
		if ok, _ := t.inc.match(name, n.inc, false); !ok {
			return false
		}
	}
	if t.exc != nil {
		if ok, _ := t.exc.match(name, n.exc, false); ok {
			return false
		}
	}
	return true
}

// pass applies the filter to a new node of the directory n, whose path is dir.
func (t *Tree) pass(n *Node, dir string, k *Node) bool {
	if t.plain {
		return true
	}
	if !k.IsDir() {
		return true // see wanted
	}
	v := filterDir(t.inc, t.exc, join(dir, k.Name), n.inc, n.exc)
	k.inc, k.exc, k.maybe = v.inc, v.exc, !v.in
	return v.in || v.below
}

// verdict is what a filter makes of a directory.
type verdict struct {
	in    bool // the directory itself passes
	below bool // something in it may
	inc   bits
	exc   bits
}

func filterDir(include, exclude *patterns, name string, inc, exc bits) verdict {
	v := verdict{in: true, below: true}
	if include != nil {
		if v.in, v.inc = include.match(name, inc, true); !v.in {
			v.below = include.mayMatchBelow(name, false)
		}
	}
	if exclude != nil {
		var out bool
		if out, v.exc = exclude.match(name, exc, true); out {
			v.in = false
			v.below = v.below && exclude.negated && exclude.mayMatchBelow(name, true)
		}
	}
	return v
}

// visible says whether something in a directory that does not pass itself does. If so, so does the directory.
func (t *Tree) visible(n *Node) (bool, error) {
	if !n.maybe {
		return true, nil
	}
	if err := t.read(n); err != nil {
		return false, err
	}
	for _, k := range n.kids {
		seen, err := t.visible(k)
		if err != nil {
			return false, err
		}
		if seen {
			n.maybe = false
			return true, nil
		}
	}
	n.kids = nil
	return false, nil
}

// prune takes the directories out of which nothing passes.
func (n *Node) prune() (left bool) {
	if n.pruned {
		return !n.maybe // others may be reading it
	}
	n.pruned = true
	kept := n.kids[:0]
	for _, k := range n.kids {
		if !k.IsDir() || !k.read || k.prune() {
			kept = append(kept, k)
		}
	}
	clear(n.kids[len(kept):])
	n.kids = kept
	if n.maybe && len(kept) > 0 {
		n.maybe = false
	}
	return !n.maybe
}

// follower collects the paths that names lead through.
type follower struct {
	t        *Tree
	resolved map[string]bool
	budget   int
}

// mostPaths bounds what links that lead through each other can make of a few paths.
const mostPaths = 10_000

// followPaths returns patterns for paths with all that links on their way lead to; everything is true if one is the root.
func (t *Tree) followPaths(names []string) (list []string, everything bool, err error) {
	f := &follower{t: t, resolved: make(map[string]bool), budget: mostPaths}
	for _, name := range names {
		if err := f.add(name); err != nil {
			return nil, false, err
		}
	}
	for name := range f.resolved {
		if name == "." {
			return nil, true, nil
		}
		list = append(list, name)
	}
	slices.Sort(list)
	last := ""
	list = slices.DeleteFunc(list, func(name string) bool {
		if last != "" && strings.HasPrefix(name, last+"/") {
			return true
		}
		last = name
		return false
	})
	return list, false, nil
}

// add follows one path, component by component; one with wildcards stands for all that match it. What leads nowhere is
// included all the same, so that its absence is noticed where it is copied.
func (f *follower) add(name string) error {
	if f.budget--; f.budget < 0 || len(name) > 16*unix.PathMax {
		return nil // links in a circle
	}
	current, rest := "", strings.TrimPrefix(path.Join("/", name), "/")
	if rest == "" {
		f.resolved["."] = true
		return nil
	}
	for {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		current = join(current, part)
		targets, err := f.targets(current)
		if err != nil {
			return err
		}
		if rest != "" && len(targets) == 0 {
			continue
		}
		if rest == "" && f.resolved[current] {
			return nil
		}
		f.resolved[current] = true
		for _, target := range targets {
			if err := f.add(path.Join(target, rest)); err != nil {
				return err
			}
		}
		return nil
	}
}

// targets are where the links that name matches lead.
func (f *follower) targets(name string) ([]string, error) {
	dir, base := path.Split(name)
	parent, err := f.find(strings.TrimSuffix(dir, "/"))
	if parent == nil || !parent.IsDir() || err != nil {
		return nil, err
	}
	if err := f.t.read(parent); err != nil {
		return nil, err
	}
	var list []string
	one := func(k *Node) error {
		if k == nil || !k.IsLink() {
			return nil
		}
		target, err := f.t.readlink(k)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
			return nil
		}
		if err == nil && !path.IsAbs(target) {
			target = path.Join("/", dir, target)
		}
		list = append(list, target)
		return err
	}
	if !HasWildcards(base) {
		return list, one(parent.kid(base))
	}
	for _, k := range parent.kids {
		if ok, _ := filepath.Match(base, k.Name); ok {
			if err := one(k); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

// find looks a path up that is free of links, or leads nowhere: then it is nil.
func (f *follower) find(name string) (*Node, error) {
	n := f.t.top
	for part := range strings.SplitSeq(name, "/") {
		if part == "" {
			continue
		}
		if !n.IsDir() {
			return nil, nil //nolint:nilnil // nothing there, and that is no error
		}
		k, err := f.t.child(n, part)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil //nolint:nilnil // as above
		}
		if err != nil {
			return nil, err
		}
		n = k
	}
	return n, nil
}

// HasWildcards says whether a path has characters that filepath.Match takes for something else.
func HasWildcards(name string) bool {
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}
