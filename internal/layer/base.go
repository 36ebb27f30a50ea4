package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// mountPoint is a place that every container has something mounted on, or that programs expect.
type mountPoint struct {
	name string
	kind uint32
	link string
}

// mountPoints are made once for an image that lacks them, in a layer of their own below the writable one. Made in the
// writable layer they would cost time at every start, and show up in diff and commit as the user's changes.
var mountPoints = []mountPoint{
	{".dockerenv", unix.S_IFREG, ""}, // by which programs know that they are in a container
	{"dev", unix.S_IFDIR, ""},
	{"dev/console", unix.S_IFREG, ""},
	{"dev/pts", unix.S_IFDIR, ""},
	{"dev/shm", unix.S_IFDIR, ""},
	{"etc/hostname", unix.S_IFREG, ""},
	{"etc/hosts", unix.S_IFREG, ""},
	{"etc/mtab", unix.S_IFLNK, "/proc/mounts"},
	{"etc/resolv.conf", unix.S_IFREG, ""},
	{"proc", unix.S_IFDIR, ""},
	{"sys", unix.S_IFDIR, ""},
}

// base makes the mount points for what p stands on, or finds those made before, and returns their name. Store.mu is held.
func (s *Store) base(p *prepared) (string, error) {
	key := fmt.Sprint(p.Lower, p.Root)
	if name, ok := s.bases[key]; ok {
		return name, nil
	}
	name := randomName()[:12]
	b := &baseBuilder{s: s, dir: "t/" + name, below: s.stack("", &prepared{Lower: p.Lower, ReadOnly: true}, false)}
	made, err := b.build(p.Root)
	if err == nil && made {
		err = unix.Renameat2(s.fd, b.dir, s.fd, "i/"+name, unix.RENAME_NOREPLACE)
	}
	if err != nil || !made {
		err = errors.Join(err, sys.RemoveAllAt(s.fd, b.dir))
		name = ""
	}
	if err != nil {
		return "", err
	}
	s.bases[key] = name
	return name, nil
}

type baseBuilder struct {
	s     *Store
	dir   string // relative to the store
	below *stack
	times []parentTime
}

// parentTime is when the image's own directory was changed last: making mount points in its copy does not count.
type parentTime struct {
	name  string
	mtime unix.Timespec
}

// build reports whether anything had to be made.
func (b *baseBuilder) build(root rootMeta) (made bool, err error) {
	if err := b.mkdir("", root.Mode, root.UID, root.GID); err != nil {
		return false, err
	}
	for _, m := range mountPoints {
		_, err := b.below.walk(m.name)
		if !errors.Is(err, fs.ErrNotExist) {
			if err == nil || errors.Is(err, errIndirect) || errors.Is(err, unix.ENOTDIR) {
				continue // there is something, if only a link: that is the image's choice
			}
			return false, err
		}
		if err := b.make(m); err != nil {
			return false, fmt.Errorf("%s: %w", m.name, err)
		}
		made = true
	}
	for _, t := range b.times {
		ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, t.mtime}
		if err := unix.UtimesNanoAt(b.s.fd, b.dir+"/"+t.name, ts, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return false, err
		}
	}
	return made, nil
}

// make makes one mount point, below a copy of the image's own directory if it has it.
func (b *baseBuilder) make(m mountPoint) error {
	if parent := path.Dir(m.name); parent != "." {
		if err := b.parent(parent); err != nil {
			return err
		}
	}
	at := b.dir + "/" + m.name
	switch m.kind {
	case unix.S_IFDIR:
		return b.mkdir(m.name, 0o755, 0, 0)
	case unix.S_IFLNK:
		return unix.Symlinkat(m.link, b.s.fd, at)
	}
	return unix.Mknodat(b.s.fd, at, unix.S_IFREG|0o644, 0)
}

func (b *baseBuilder) parent(name string) error {
	f, err := b.below.walk(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return b.mkdir(name, 0o755, 0, 0)
	case err != nil:
		return err
	}
	b.times = append(b.times, parentTime{name, f.st.Mtim})
	return b.mkdir(name, f.st.Mode&0o7777, int(f.st.Uid), int(f.st.Gid))
}

func (b *baseBuilder) mkdir(name string, mode uint32, uid, gid int) error {
	at := strings.TrimSuffix(b.dir+"/"+name, "/")
	if err := unix.Mkdirat(b.s.fd, at, mode); err != nil {
		if err == unix.EEXIST {
			return nil
		}
		return err
	}
	if uid != 0 || gid != 0 {
		if err := unix.Fchownat(b.s.fd, at, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	return unix.Fchmodat(b.s.fd, at, mode, 0)
}

// recoverBases throws away the mount points that no root filesystem stands on, and goes on with the others.
func (s *Store) recoverBases() error {
	entries, err := os.ReadDir(filepath.Join(s.dir, "i"))
	if err != nil {
		return err
	}
	used := s.usedBases()
	var errs []error
	for _, e := range entries {
		if !used[e.Name()] {
			errs = append(errs, s.discard("i/"+e.Name()))
		}
	}
	for _, p := range s.roots {
		s.bases[fmt.Sprint(p.Lower, p.Root)] = p.Base
	}
	return errors.Join(errs...)
}

// collectBases throws away the mount points that no root filesystem stands on. Store.mu is held.
func (s *Store) collectBases() error {
	used := s.usedBases()
	var errs []error
	for key, name := range s.bases {
		if used[name] {
			continue
		}
		delete(s.bases, key)
		if name != "" {
			errs = append(errs, s.throwAway("i/"+name))
		}
	}
	return errors.Join(errs...)
}

func (s *Store) usedBases() map[string]bool {
	used := make(map[string]bool)
	for _, p := range s.roots {
		used[p.Base] = true
	}
	return used
}
