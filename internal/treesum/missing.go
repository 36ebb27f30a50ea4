package treesum

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/typo"
)

// missing explains why a path leads to nothing: it is left out by a pattern, or there are others with nearly its name.
func (t *Tree) missing(name string, err error) error {
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
		return err
	}
	f := &fault.Error{Code: "path-not-found", What: fmt.Sprintf("%q: not found", name), Class: errdefs.ErrNotFound, Err: err}
	if pattern := t.hidden(name); pattern != "" {
		f.Cause = fmt.Sprintf("it is there, but the pattern %q of the ignore file leaves it out", pattern)
		f.Try = fmt.Sprintf("a line %q at the end of .dockerignore", "!"+strings.TrimPrefix(name, "/"))
		return f
	}
	// What a filter lets through was chosen for the right names; what is meant may be beside it.
	whole := t.unfiltered()
	if link, target := whole.dangling(name); link != "" {
		f.Cause = fmt.Sprintf("%s is a symbolic link to %s, which leads to nothing inside this tree", link, target)
		if path.IsAbs(target) || strings.HasPrefix(target, "..") {
			f.Cause += "; nothing outside of it is ever read"
			f.Try = "copy the file into the context, or give its directory with --build-context NAME=DIR and copy with --from=NAME"
		}
		return f
	}
	near := slices.DeleteFunc(whole.near(name), func(n string) bool { return t.hidden("/"+n) != "" })
	switch {
	case len(near) > 0:
		f.Cause = "there is " + strings.Join(near, ", ")
	case errors.Is(err, unix.ELOOP):
		f.Cause = "symbolic links lead in a circle"
	default:
		f.Cause = "there is nothing of that name, nor of a similar one"
	}
	return f
}

// unfiltered is the same tree with all that is in it.
func (t *Tree) unfiltered() *Tree {
	if t.all != nil {
		return t.all
	}
	if t.exc == nil && t.inc == nil {
		return t
	}
	all, err := newTree(t.root)
	if err != nil {
		return t
	}
	t.all = all
	return all
}

// dangling finds on the way of a path the link that leads to nothing, and where it says that it leads.
func (t *Tree) dangling(name string) (link, target string) {
	at := "/"
	for part := range strings.SplitSeq(strings.Trim(name, "/"), "/") {
		at = path.Join(at, part)
		n, err := t.lookup(at, false)
		if err != nil {
			return "", ""
		}
		if !n.IsLink() {
			continue
		}
		if _, err := t.lookup(at, true); err == nil || errors.Is(err, unix.ELOOP) {
			continue
		}
		target, err := t.readlink(n)
		if err != nil {
			return "", ""
		}
		return strings.TrimPrefix(at, "/"), target
	}
	return "", ""
}

// hidden is the pattern that leaves out a path which is there.
func (t *Tree) hidden(name string) string {
	if t.exc == nil {
		return ""
	}
	n, err := t.unfiltered().lookup(name, true)
	if err != nil {
		return ""
	}
	// The last pattern that matches the path or a directory above it decides.
	hider := ""
	for i := range t.exc.list {
		p := &t.exc.list[i]
		for at := n.Path(); at != "." && at != ""; at = path.Dir(at) {
			if !p.match(at) {
				continue
			}
			if hider = p.text; p.negate {
				hider = ""
			}
			break
		}
	}
	return hider
}

// near lists names that a person may have meant, in the deepest directory of the path that is there.
func (t *Tree) near(name string) []string {
	dir, base := path.Split(strings.TrimSuffix(name, "/"))
	n, err := t.lookup(dir, true)
	if err != nil || !n.IsDir() || t.read(n) != nil {
		if dir = strings.TrimSuffix(dir, "/"); dir == "" {
			return nil
		}
		return t.near(dir)
	}
	var names []string
	most := max(2, len(base)/4)
	for _, k := range n.kids {
		if typo.Distance(strings.ToLower(base), strings.ToLower(k.Name), most) <= most {
			names = append(names, strings.TrimPrefix(path.Join(dir, k.Name), "/"))
		}
	}
	return typo.Rank(strings.TrimPrefix(name, "/"), names, 3)
}
