package treesum

import (
	"context"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Selection is what a copy takes from a tree, in BuildKit's words.
type Selection struct {
	Path string
	// Wildcard takes the pattern characters in Path for what they are.
	Wildcard bool
	// FollowLinks follows a link that is the last component of Path.
	FollowLinks bool
	// Include and Exclude are patterns for what is below the selected paths.
	Include, Exclude []string
	// Required paths must be among what is selected.
	Required []string
	// Root makes all files root's, as those of a build context are.
	Root bool
}

// Match is one selected file or directory.
type Match struct {
	// Name is what it is called where it is copied to; empty for the root of the tree.
	Name string
	Node *Node
}

// Selected is what a Selection found. It does not change.
type Selected struct {
	Matches []Match
	tree    *Tree
	kids    map[*Node][]*Node // of directories, if patterns take something out
	partial map[*Node]bool    // directories that the patterns leave out, but not all that is in them
}

// Partial says whether a directory was selected for something in it only.
func (s *Selected) Partial(n *Node) bool { return s.partial[n] }

// OpenParent opens the directory that holds a selected file for reading.
func (s *Selected) OpenParent(n *Node) (int, error) { return s.tree.openDir(n.parent) }

// Kids are what was selected in a directory, sorted.
func (s *Selected) Kids(n *Node) []*Node {
	if s.kids != nil {
		return s.kids[n]
	}
	return n.kids
}

// Open opens a selected directory for reading.
func (s *Selected) Open(n *Node) (int, error) { return s.tree.openDir(n) }

// Select finds what a copy takes, and reads the directories that it needs. A path without wildcards that leads to nothing
// is an errdefs.ErrNotFound fault; one with wildcards may match nothing.
func (t *Tree) Select(ctx context.Context, sel Selection) (*Selected, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.choose(ctx, sel)
}

func (t *Tree) choose(ctx context.Context, sel Selection) (*Selected, error) {
	s := &Selected{tree: t}
	var err error
	if s.Matches, err = t.matches(ctx, sel); err != nil {
		return nil, err
	}
	for _, m := range s.Matches {
		if err := t.load(ctx, m.Node); err != nil {
			return nil, err
		}
	}
	if err := s.filter(sel); err != nil {
		return nil, err
	}
	return s, s.require(sel.Required)
}

// matches finds what a path stands for.
func (t *Tree) matches(ctx context.Context, sel Selection) ([]Match, error) {
	clean := path.Join("/", sel.Path)
	if sel.Wildcard {
		if dir, pattern := splitWildcards(clean); pattern != "" {
			return t.glob(ctx, dir, pattern, sel.FollowLinks)
		}
	}
	n, err := t.lookup(clean, sel.FollowLinks)
	if err != nil {
		return nil, t.missing(clean, err)
	}
	name := path.Base(clean)
	if strings.HasSuffix(sel.Path, "/.") || name == "/" {
		name = ""
	}
	return []Match{{name, n}}, nil
}

// splitWildcards parts a path before its first component with wildcards.
func splitWildcards(name string) (dir, pattern string) {
	parts := strings.Split(name, "/")
	i := slices.IndexFunc(parts, HasWildcards)
	if i < 0 {
		return name, ""
	}
	return strings.Join(parts[:i], "/"), strings.Join(parts[i:], "/")
}

// glob finds what matches a pattern below dir, in the order of the names. No wildcard stands for a slash, and links are
// followed at the end of a path only.
func (t *Tree) glob(ctx context.Context, dir, pattern string, follow bool) ([]Match, error) {
	n, err := t.lookup(dir, follow)
	if err != nil {
		return nil, t.missing(dir, err)
	}
	found := []*Node{n}
	for part := range strings.SplitSeq(pattern, "/") {
		var next []*Node
		for _, d := range found {
			if !d.IsDir() {
				continue
			}
			if err := t.read(d); err != nil {
				return nil, err
			}
			for _, k := range d.kids {
				if ok, _ := filepath.Match(part, k.Name); !ok {
					continue
				}
				if seen, err := t.visible(k); err != nil || !seen {
					if err != nil {
						return nil, err
					}
					continue
				}
				next = append(next, k)
			}
		}
		found = next
	}
	list := make([]Match, len(found))
	for i, k := range found {
		list[i] = Match{k.Name, k}
		if !follow || !k.IsLink() {
			continue
		}
		links := maxLinks
		if list[i].Node, err = t.follow(k, &links); err != nil {
			return nil, t.missing("/"+k.Path(), err)
		}
	}
	return list, context.Cause(ctx)
}

// filter takes out what the patterns of the selection leave out. They are relative to the selected directories, which
// themselves are always taken.
func (s *Selected) filter(sel Selection) error {
	include, err := compile(sel.Include)
	if err != nil {
		return err
	}
	exclude, err := compile(sel.Exclude)
	if err != nil || include == nil && exclude == nil {
		return err
	}
	s.kids, s.partial = make(map[*Node][]*Node), make(map[*Node]bool)
	f := &sifter{include, exclude, s.kids, s.partial}
	for _, m := range s.Matches {
		f.dir(m.Node, "", nil, nil)
	}
	return nil
}

// sifter applies patterns to a subtree that was read.
type sifter struct {
	include, exclude *patterns
	kids             map[*Node][]*Node
	partial          map[*Node]bool
}

func (f *sifter) dir(n *Node, name string, inc, exc bits) {
	var kept []*Node
	for _, k := range n.kids {
		sub := join(name, k.Name)
		if k.IsDir() {
			v := filterDir(f.include, f.exclude, sub, inc, exc)
			if v.in || v.below {
				f.dir(k, sub, v.inc, v.exc)
			}
			if v.in || len(f.kids[k]) > 0 {
				kept = append(kept, k)
				f.partial[k] = !v.in
			}
			continue
		}
		if f.include != nil {
			if ok, _ := f.include.match(sub, inc, false); !ok {
				continue
			}
		}
		if f.exclude != nil {
			if ok, _ := f.exclude.match(sub, exc, false); ok {
				continue
			}
		}
		kept = append(kept, k)
	}
	if len(kept) > 0 {
		f.kids[n] = kept
	}
}

// require checks that paths are selected.
func (s *Selected) require(names []string) error {
	for _, name := range names {
		if !s.has(path.Join("/", name)) {
			return s.tree.missing(path.Join("/", name), nil)
		}
	}
	return nil
}

// has says whether something selected has a path that begins so.
func (s *Selected) has(name string) bool {
	var below func(n *Node, at string) bool
	below = func(n *Node, at string) bool {
		if strings.HasPrefix(at, name) {
			return true
		}
		if !strings.HasPrefix(name, at) {
			return false
		}
		return slices.ContainsFunc(s.Kids(n), func(k *Node) bool { return below(k, strings.TrimSuffix(at, "/")+"/"+k.Name) })
	}
	return slices.ContainsFunc(s.Matches, func(m Match) bool { return below(m.Node, "/"+m.Node.Path()) })
}
