package bootstrap

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/debian"
	"github.com/kistdev/kist/internal/sys"
)

// tree is the root filesystem that packages are unpacked into, several at a time. Which package a path belongs to does not
// depend on which of them comes first.
type tree struct {
	root *sys.Root
	// merged says that /bin, /lib and others are links into /usr.
	merged bool
	shards [64]shard
	dirs   dirOwners
	links  sync.Map // of top directories that are settled
	mu     sync.Mutex
}

// shard guards a part of the paths.
type shard struct {
	mu    sync.Mutex
	owner map[string]*unpacked
}

// dirOwners remember whose attributes a directory has.
type dirOwners struct {
	mu sync.Mutex
	by map[string]dirOwner
}

type dirOwner struct {
	rank     int
	mode     uint32
	uid, gid int
}

func newTree(root *sys.Root, merged bool) *tree {
	t := &tree{root: root, merged: merged, dirs: dirOwners{by: map[string]dirOwner{}}}
	for i := range t.shards {
		t.shards[i].owner = map[string]*unpacked{}
	}
	return t
}

// mergeable are the directories that are links into /usr today.
var mergeable = []string{"bin", "sbin", "lib", "lib32", "lib64", "libo32", "libx32"}

// place makes a path of a tar one without links at its beginning, and the link that it needs.
func (t *tree) place(name string) (string, error) {
	top, _, below := strings.Cut(name, "/")
	if !t.merged || !slices.Contains(mergeable, top) {
		return name, nil
	}
	if _, ok := t.links.Load(top); !ok {
		if err := t.link(top); err != nil {
			return "", err
		}
		t.links.Store(top, true)
	}
	if !below {
		return name, nil
	}
	return "usr/" + name, nil
}

func (t *tree) link(top string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	f, err := t.root.MkdirAll("usr/"+top, 0o755)
	if err != nil {
		return err
	}
	_ = f.Close() // it was only opened
	if err := unix.Symlinkat("usr/"+top, t.root.Fd(), top); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("link /%s: %w", top, err)
	}
	return nil
}

func (t *tree) shard(name string) *shard {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return &t.shards[h%uint32(len(t.shards))]
}

// claim makes a path the package's, unless another package has a right to it. make is called with the path locked; it is
// told whether something of another package is in its place.
func (t *tree) claim(name string, p *unpacked, make func(replace bool) error) (bool, error) {
	s := t.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	other := s.owner[name]
	if other != nil && other != p {
		switch {
		case p.pkg.Overrides(other.pkg) && !other.pkg.Overrides(p.pkg):
		case other.pkg.Overrides(p.pkg):
			return false, nil
		default:
			return false, fmt.Errorf("%s and %s both have /%s: %w", p.pkg, other.pkg, name, errdefs.ErrConflict)
		}
	}
	s.owner[name] = p
	return true, make(other != nil)
}

// owns says whether a path is the package's in the end.
func (t *tree) owns(name string, p *unpacked) bool {
	s := t.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owner[name] == p
}

// directory makes a directory, or gives one that is there the attributes of the package that comes first by its rank.
func (t *tree) directory(parent int, base, name string, o dirOwner) error {
	t.dirs.mu.Lock()
	defer t.dirs.mu.Unlock()
	was, known := t.dirs.by[name]
	if known && was.rank <= o.rank {
		return nil
	}
	t.dirs.by[name] = o
	if known && was.mode == o.mode && was.uid == o.uid && was.gid == o.gid {
		return nil
	}
	err := unix.Mkdirat(parent, base, 0o755)
	if errors.Is(err, unix.EEXIST) {
		var st unix.Stat_t
		if err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return nil // dpkg keeps a link to a directory
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return fmt.Errorf("/%s is a directory of one package, and something else of another: %w", name, errdefs.ErrConflict)
		}
	} else if err != nil {
		return err
	}
	if o.uid != 0 || o.gid != 0 || known {
		if err := unix.Fchownat(parent, base, o.uid, o.gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	if o.mode != 0o755 || known {
		return unix.Fchmodat(parent, base, o.mode, 0)
	}
	return nil
}

// cleanName is the path of a tar's entry below the root; what leads elsewhere is refused.
func cleanName(name string) (string, error) {
	clean := strings.TrimPrefix(path.Clean("/"+name), "/")
	if strings.HasPrefix(name, "/") || slices.Contains(strings.Split(name, "/"), "..") || strings.IndexByte(name, 0) >= 0 || len(clean) > 4096 {
		return "", fmt.Errorf("path %.200q: %w", name, errdefs.ErrInvalidArgument)
	}
	return clean, nil
}

// rank orders packages for the attributes of directories that several of them have.
func rank(p *debian.Package, n int) int {
	switch {
	case p.Name == "base-files":
		return -1
	case p.Essential:
		return n
	}
	return n + 1<<20
}
