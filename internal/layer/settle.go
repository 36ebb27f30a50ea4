package layer

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// whiteoutPrefix is how names begin by which layers' tars tell of what is gone.
const whiteoutPrefix = ".wh."

// settler takes out of a writable layer what changes nothing, and measures the rest.
type settler struct {
	ctx   context.Context //nolint:containedctx // lives as long as the one call that made it
	lower *stack
	epoch *time.Time
	seen  map[uint64]struct{} // inodes with several names
	size  int64

	removed bool // something was taken out
	hides   bool // something hides what is below
	linked  bool // a file has several names
}

// top settles the whole layer and returns how many entries its root has left.
func (t *settler) top(fd int) (int, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	t.size += st.Blocks * 512
	return t.dir(fd, ".", "", &st, t.lower.top())
}

// dir settles the directory base in dirfd, called name, which lies on the directories below.
func (t *settler) dir(dirfd int, base, name string, st *unix.Stat_t, below merged) (kept int, err error) {
	if err := context.Cause(t.ctx); err != nil {
		return 0, err
	}
	fd, err := openDir(dirfd, base)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return 0, err
	}
	for _, n := range names {
		keep, err := t.entry(fd, n, strings.TrimPrefix(name+"/"+n, "/"), below)
		if err != nil {
			return 0, err
		}
		if keep {
			kept++
		}
	}
	return kept, t.clamp(fd, "", st, kept < len(names))
}

// entry settles one entry and says whether it is still there.
func (t *settler) entry(dirfd int, base, name string, below merged) (keep bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dirfd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFSOCK || strings.HasPrefix(base, whiteoutPrefix) {
		t.removed = true
		return false, sys.RemoveAllAt(dirfd, base) // no tar of a layer can tell of it
	}
	var old *found
	if len(below) > 0 {
		if old, err = t.lower.lookup(below, name); err != nil {
			return false, err
		}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return t.subdir(dirfd, base, name, &st, old)
	}
	needless := old == nil
	if !sys.IsWhiteout(&st) {
		needless, err = t.copiedUp(dirfd, base, &st, old)
	}
	if err != nil {
		return false, &os.PathError{Op: "compare", Path: name, Err: err}
	}
	if needless {
		t.removed = true
		return false, unix.Unlinkat(dirfd, base, 0)
	}
	t.hides = t.hides || sys.IsWhiteout(&st)
	t.count(&st)
	return true, t.clamp(dirfd, base, &st, false)
}

func (t *settler) subdir(dirfd int, base, name string, st *unix.Stat_t, old *found) (keep bool, err error) {
	path := sys.FDPath(dirfd) + "/" + base
	var opaque bool
	var below merged
	if old != nil {
		below = old.below
	}
	if opaque, err = sys.IsOpaque(path, t.lower.prefix); err != nil {
		return false, &os.PathError{Op: "getxattr", Path: name, Err: err}
	}
	if opaque && below == nil {
		if err := unix.Lremovexattr(path, t.lower.prefix+"opaque"); err != nil {
			return false, &os.PathError{Op: "removexattr", Path: name, Err: err}
		}
		opaque = false
	}
	if opaque {
		t.hides = true
		below = nil
	}
	kept, err := t.dir(dirfd, base, name, st, below)
	if err != nil {
		return false, err
	}
	if kept == 0 && below != nil && !differs(st, &old.st) && sameXattrs(path, old.file) {
		t.removed = true
		return false, unix.Unlinkat(dirfd, base, unix.AT_REMOVEDIR)
	}
	t.count(st)
	return true, nil
}

// count adds a file to the layer's size.
func (t *settler) count(st *unix.Stat_t) {
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		t.linked = true
		if _, ok := t.seen[st.Ino]; ok {
			return
		}
		t.seen[st.Ino] = struct{}{}
	}
	t.size += st.Blocks * 512
}

// clamp sets the time of a file that is later than the epoch, and that of a directory which settling has touched. An empty
// base is dirfd itself.
func (t *settler) clamp(dirfd int, base string, st *unix.Stat_t, touched bool) error {
	at := st.Mtim
	if t.epoch != nil && time.Unix(at.Unix()).After(*t.epoch) {
		at, touched = unix.NsecToTimespec(t.epoch.UnixNano()), true
	}
	if !touched {
		return nil
	}
	flags := unix.AT_SYMLINK_NOFOLLOW
	if base == "" {
		base = "."
	}
	return unix.UtimesNanoAt(dirfd, base, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, at}, flags)
}

// copiedUp says whether a file is the same as the one below that it hides: overlayfs copies a file up as soon as somebody
// could change it, or sets an owner that it has already.
func (t *settler) copiedUp(dirfd int, base string, st *unix.Stat_t, old *found) (bool, error) {
	if old == nil || st.Nlink != 1 || st.Mode != old.st.Mode || differs(st, &old.st) || st.Mtim != old.st.Mtim {
		return false, nil
	}
	path := sys.FDPath(dirfd) + "/" + base
	if !sameXattrs(path, old.file) {
		return false, nil
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return sameContent(dirfd, base, old.file)
	case unix.S_IFLNK:
		a, err := sys.ReadlinkAt(dirfd, base)
		if err != nil {
			return false, err
		}
		b, err := sys.ReadlinkAt(unix.AT_FDCWD, old.file)
		return a == b, err
	}
	return true, nil
}

func sameContent(dirfd int, base, other string) (bool, error) {
	const how = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	a, err := unix.Openat(dirfd, base, how, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(a)
	b, err := unix.Open(other, how, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(b)
	x, y := make([]byte, 128<<10), make([]byte, 128<<10)
	for {
		n, err := readFull(a, x)
		if err != nil {
			return false, err
		}
		m, err := readFull(b, y)
		if err != nil || !bytes.Equal(x[:n], y[:m]) {
			return false, err
		}
		if n < len(x) {
			return true, nil
		}
	}
}

// readFull fills b but at the end of the file.
func readFull(fd int, b []byte) (n int, err error) {
	for n < len(b) {
		m, err := unix.Read(fd, b[n:])
		if err == unix.EINTR {
			continue
		}
		if m <= 0 || err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}

// sameXattrs compares the attributes that count, in doubt they differ.
func sameXattrs(a, b string) bool {
	x, errX := countingXattrs(a)
	y, errY := countingXattrs(b)
	if errX != nil || errY != nil || !slices.Equal(x, y) {
		return false
	}
	for _, name := range x {
		v, errV := sys.GetXattr(a, name)
		w, errW := sys.GetXattr(b, name)
		if errors.Join(errV, errW) != nil || !bytes.Equal(v, w) {
			return false
		}
	}
	return true
}

// countingXattrs lists the attributes that are not overlayfs's own.
func countingXattrs(path string) ([]string, error) {
	names, err := sys.ListXattrs(path)
	names = slices.DeleteFunc(names, func(n string) bool {
		return strings.HasPrefix(n, "trusted.overlay.") || strings.HasPrefix(n, "user.overlay.")
	})
	slices.Sort(names)
	return names, err
}
