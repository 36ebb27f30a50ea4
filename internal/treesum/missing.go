package treesum

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
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
	if near := t.near(name); len(near) > 0 {
		f.Cause = "there is " + strings.Join(near, ", ")
	} else if errors.Is(err, unix.ELOOP) {
		f.Cause = "symbolic links lead in a circle"
	}
	return f
}

// hidden is the pattern that leaves out a path which is there.
func (t *Tree) hidden(name string) string {
	if t.exc == nil {
		return ""
	}
	if t.all == nil {
		all, err := newTree(t.root)
		if err != nil {
			return ""
		}
		t.all = all
	}
	n, err := t.all.lookup(name, true)
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
