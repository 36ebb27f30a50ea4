package treesum

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// Filter says what of a tree counts. The zero value is all of it.
type Filter struct {
	// Include, when there are any, are the patterns that a file or a directory above it must match, as .dockerignore's.
	Include []string
	// Exclude are .dockerignore's patterns.
	Exclude []string
	// FollowPaths are paths (each component may have wildcards) that are included, with what the links on their way lead
	// to.
	FollowPaths []string
}

// Tree is a tree of files, read as far as somebody wanted to know. What was read once is not read again. It is safe for
// concurrent use, as is the root that it was made of.
type Tree struct {
	root  *sys.Root
	cache *statCache // nil without
	began int64      // before anything was looked at, by the clock of files
	mu    sync.Mutex // guards what follows, and the nodes that are not yet seen
	top   *Node
	inc   *patterns
	exc   *patterns
	all   *Tree // the tree without the filter, made when it is needed
	plain bool  // nothing is filtered
}

// Scan begins to read the tree below root, which must stay open until the tree is closed. The key names the stat cache;
// without one, contents are read each time. Only what is asked for later is read, and what FollowPaths need.
func (c *Cache) Scan(_ context.Context, root *sys.Root, key string, f Filter) (*Tree, error) {
	t, err := newTree(root)
	if err != nil {
		return nil, err
	}
	if key != "" {
		t.cache = c.open(key)
	}
	if err := t.setFilter(f); err != nil {
		return nil, err
	}
	return t, nil
}

func newTree(root *sys.Root) (*Tree, error) {
	t := &Tree{root: root, began: coarseNow(), top: new(Node), plain: true}
	var st unix.Statx_t
	if err := unix.Statx(root.Fd(), "", unix.AT_EMPTY_PATH, statxMask, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: "/", Err: err}
	}
	t.top.fill(&st)
	return t, nil
}

// Close writes down what was learnt.
func (t *Tree) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cache == nil {
		return nil
	}
	return t.cache.save()
}

// openDir opens a directory of the tree for reading. A link that took the place of one of the directories on the way is
// not followed.
func (t *Tree) openDir(n *Node) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_BENEATH,
	}
	name := n.Path()
	if name == "" {
		name = "."
	}
	for {
		fd, err := unix.Openat2(t.root.Fd(), name, &how)
		if err == nil {
			return fd, nil
		}
		if err != unix.EINTR && err != unix.EAGAIN {
			return -1, &os.PathError{Op: "open", Path: n.Path(), Err: err}
		}
	}
}

// read lists a directory, once. t.mu is held.
func (t *Tree) read(n *Node) error {
	if n.read {
		return nil
	}
	fd, err := t.openDir(n)
	if err != nil {
		return t.vanished(n, err)
	}
	defer unix.Close(fd)
	return t.readFrom(fd, n)
}

// vanished takes a directory that is gone meanwhile for an empty one.
func (t *Tree) vanished(n *Node, err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		n.read, n.gone = true, true
		return nil
	}
	return err
}

// readFrom lists the open directory. Each node that is not read belongs to one goroutine.
func (t *Tree) readFrom(fd int, n *Node) error {
	dir := n.Path()
	if len(dir) >= unix.PathMax-2 { // nothing below it can be named
		return &os.PathError{Op: "read", Path: dir[:64] + "...", Err: unix.ENAMETOOLONG}
	}
	strange := false // a file system that does not tell kinds
	kids, err := list(fd, func(name string, isDir, known bool) bool {
		strange = strange || !known
		return t.wanted(n, dir, name, isDir || !known)
	})
	if err != nil {
		return fmt.Errorf("read directory /%s: %w", dir, err)
	}
	kept := kids[:0]
	for _, k := range kids {
		k.parent = n
		if t.pass(n, dir, k) && (!strange || k.IsDir() || t.wanted(n, dir, k.Name, false)) {
			kept = append(kept, k)
		}
	}
	n.kids, n.read = kept, true
	return nil
}

// maxLinks is how many links one path may lead through, as in the kernel.
const maxLinks = 40

// lookup finds a path in the tree. Links are followed inside it, as chroot does; the last component's only if follow
// says so. t.mu is held.
func (t *Tree) lookup(name string, follow bool) (*Node, error) {
	links := maxLinks
	n, err := t.walk(t.top, name, follow, &links)
	if err != nil {
		return nil, &os.PathError{Op: "lookup", Path: "/" + strings.TrimPrefix(name, "/"), Err: err}
	}
	return n, nil
}

func (t *Tree) walk(from *Node, name string, follow bool, links *int) (*Node, error) {
	n := from
	for name != "" {
		var part string
		part, name, _ = strings.Cut(strings.TrimLeft(name, "/"), "/")
		switch part {
		case "", ".":
			continue
		case "..":
			if n.parent != nil {
				n = n.parent
			}
			continue
		}
		if !n.IsDir() {
			return nil, unix.ENOTDIR
		}
		k, err := t.child(n, part)
		if err != nil {
			return nil, err
		}
		if k.IsLink() && (follow || strings.Trim(name, "/") != "") {
			if k, err = t.follow(k, links); err != nil {
				return nil, err
			}
		}
		n = k
	}
	return n, nil
}

// follow finds what a link leads to.
func (t *Tree) follow(n *Node, links *int) (*Node, error) {
	if *links == 0 {
		return nil, unix.ELOOP
	}
	*links--
	target, err := t.readlink(n)
	if err != nil {
		return nil, err
	}
	from := n.parent
	if path.IsAbs(target) {
		from = t.top
	}
	return t.walk(from, target, true, links)
}

// child finds a visible entry of a directory.
func (t *Tree) child(n *Node, name string) (*Node, error) {
	if err := t.read(n); err != nil {
		return nil, err
	}
	k := n.kid(name)
	if k == nil {
		return nil, fs.ErrNotExist
	}
	if k.maybe {
		seen, err := t.visible(k)
		if err != nil {
			return nil, err
		}
		if !seen {
			return nil, fs.ErrNotExist
		}
	}
	return k, nil
}

// readlink reads where a link leads, once.
func (t *Tree) readlink(n *Node) (string, error) {
	if n.target != "" {
		return n.target, nil
	}
	fd, err := t.openDir(n.parent)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	n.target, err = sys.ReadlinkAt(fd, n.Name)
	return n.target, err
}
