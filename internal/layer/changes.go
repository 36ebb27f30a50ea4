package layer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// Changes lists what the writable layer changes, as docker diff: a directory that something in it changed is changed
// itself, a file that was only copied up is not, and of a directory that is gone what was in it goes without saying.
func (s *Store) Changes(ctx context.Context, id string) ([]container.FilesystemChange, error) {
	p, err := s.root(id)
	if err != nil {
		return nil, err
	}
	if p.ReadOnly {
		return nil, nil
	}
	fd, err := unix.Openat(s.fd, "c/"+id+"/u", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("changes of root filesystem %s: %w", id, err)
	}
	defer unix.Close(fd)
	d := &differ{ctx: ctx, lower: s.stack(id, p, false)}
	if err := d.dir(fd, ".", "", under{layers: d.lower.top()}); err != nil {
		return nil, fmt.Errorf("changes of root filesystem %s: %w", id, err)
	}
	slices.SortFunc(d.changes, func(a, b container.FilesystemChange) int { return strings.Compare(a.Path, b.Path) })
	return d.changes, nil
}

// differ compares a writable layer with what is below.
type differ struct {
	ctx     context.Context //nolint:containedctx // lives as long as the one call that made it
	lower   *stack
	changes []container.FilesystemChange
}

func (d *differ) add(name string, kind container.ChangeType) {
	d.changes = append(d.changes, container.FilesystemChange{Path: "/" + name, Kind: kind})
}

// under is what lies below a directory of the writable layer.
type under struct {
	layers merged
	// hidden: the directory or one above it is opaque, so what it does not have itself is gone.
	hidden bool
}

// dir compares the directory base in dirfd, called name, with what is below.
func (d *differ) dir(dirfd int, base, name string, below under) error {
	if err := context.Cause(d.ctx); err != nil {
		return err
	}
	fd, err := openDir(dirfd, base)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err := endOf(err); err != nil {
		return err
	}
	for _, n := range names {
		if err := d.entry(fd, n, strings.TrimPrefix(name+"/"+n, "/"), below); err != nil {
			return err
		}
	}
	return nil
}

func (d *differ) entry(dirfd int, base, name string, below under) error {
	var st unix.Stat_t
	err := unix.Fstatat(dirfd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	old, err := d.lower.lookup(below.layers, name)
	if err != nil {
		return err
	}
	switch {
	case sys.IsWhiteout(&st):
		if old != nil {
			d.add(name, container.ChangeDelete)
		}
		return nil
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return d.subdir(dirfd, base, name, &st, old, below.hidden)
	case old == nil:
		d.add(name, container.ChangeAdd)
	case differs(&st, &old.st) || capability(sys.FDPath(dirfd)+"/"+base) != capability(old.file):
		d.add(name, container.ChangeModify)
	}
	return nil
}

// subdir compares a directory, and what is in it.
func (d *differ) subdir(dirfd int, base, name string, st *unix.Stat_t, old *found, hidden bool) error {
	opaque, err := sys.IsOpaque(sys.FDPath(dirfd)+"/"+base, d.lower.prefix)
	if err != nil {
		return &os.PathError{Op: "getxattr", Path: name, Err: err}
	}
	below := under{hidden: hidden || opaque}
	if old != nil {
		below.layers = old.below
	}
	listed := true
	switch {
	case old == nil:
		d.add(name, container.ChangeAdd)
	case differs(st, &old.st):
		d.add(name, container.ChangeModify)
	default:
		listed = false
	}
	before := len(d.changes)
	// What is in an opaque directory is compared with what it hides all the same, as docker does.
	if err := d.gone(dirfd, base, name, below); err != nil {
		return err
	}
	if err := d.dir(dirfd, base, name, below); err != nil {
		return err
	}
	if !listed && len(d.changes) > before {
		d.add(name, container.ChangeModify)
	}
	return nil
}

// gone lists what a hidden directory had and its successor has not.
func (d *differ) gone(dirfd int, base, name string, below under) error {
	if !below.hidden || len(below.layers) == 0 {
		return nil
	}
	old, err := d.lower.children(below.layers, name)
	if err != nil {
		return err
	}
	for _, n := range old {
		var st unix.Stat_t
		err := unix.Fstatat(dirfd, base+"/"+n, &st, unix.AT_SYMLINK_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) {
			d.add(name+"/"+n, container.ChangeDelete)
		}
	}
	return nil
}

// differs compares two files by what stat tells, as docker does: of directories neither size nor time.
func differs(a, b *unix.Stat_t) bool {
	if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Rdev != b.Rdev {
		return true
	}
	if a.Mode&unix.S_IFMT == unix.S_IFDIR {
		return false
	}
	return a.Size != b.Size || !sameTime(a.Mtim, b.Mtim)
}

// sameTime takes a time without nanoseconds for equal to one with, because archives often lose them.
func sameTime(a, b unix.Timespec) bool {
	return a.Sec == b.Sec && (a.Nsec == b.Nsec || a.Nsec == 0 || b.Nsec == 0)
}

func capability(path string) string {
	value, err := sys.GetXattr(path, "security.capability")
	if err != nil {
		return ""
	}
	return string(value)
}
