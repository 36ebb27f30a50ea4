package fileop

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
	"github.com/kistdev/kist/internal/treesum"
)

// mkdirAction makes a directory. One that is there is left as it is.
func (d *dest) mkdirAction(a *pb.FileActionMkDir, who *owner) error {
	parts, err := d.resolve(a.Path)
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		return nil
	}
	want := newDir{mode: uint32(a.Mode) & 0o777, who: who, time: timespec(a.Timestamp)}
	if !a.MakeParents {
		p, name, err := d.parent(parts)
		if err != nil {
			return err
		}
		defer p.release()
		e, err := p.lookup(name)
		if err != nil || e.exists() {
			return err
		}
		sub, err := p.mkdir(name, &e, want)
		if err != nil {
			return err
		}
		sub.release()
		return nil
	}
	made := []*dir{}
	want.made = &made
	p, err := d.mkdirAll(parts, want)
	d.settle(made, want.time)
	if err != nil {
		return err
	}
	p.release()
	return nil
}

// settle sets the time of new directories again, into which more was put since, and gives them back.
func (d *dest) settle(made []*dir, time *unix.Timespec) {
	for _, p := range slices.Backward(made) {
		if time != nil && p.fd >= 0 {
			_ = setTimes(p.fd, ".", *time, *time) // it went well before
		}
		p.release()
	}
}

// parent opens the directory above what components lead to; it must be there.
func (d *dest) parent(parts []string) (*dir, string, error) {
	last := len(parts) - 1
	p, err := d.open(parts[:last])
	if err != nil {
		return nil, "", err
	}
	if p == nil {
		return nil, "", &fs.PathError{Op: "open", Path: "/" + path.Join(parts[:last]...), Err: unix.ENOENT}
	}
	return p, parts[last], nil
}

// mkfile makes a file; one that is there is replaced.
func (d *dest) mkfile(a *pb.FileActionMkFile, who *owner) error {
	parts, err := d.resolve(a.Path)
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		return &fs.PathError{Op: "mkfile", Path: "/", Err: unix.EISDIR}
	}
	p, name, err := d.parent(parts)
	if err != nil {
		return err
	}
	defer p.release()
	if err := p.clear(name, "mkfile"); err != nil {
		return err
	}
	mode := uint32(a.Mode) & 0o777
	fd, err := unix.Openat(p.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return &fs.PathError{Op: "create", Path: p.at(name), Err: err}
	}
	defer unix.Close(fd)
	for rest := a.Data; len(rest) > 0; {
		n, err := unix.Write(fd, rest)
		if err != nil && err != unix.EINTR {
			return &fs.PathError{Op: "write", Path: p.at(name), Err: err}
		}
		rest = rest[max(n, 0):]
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return &fs.PathError{Op: "chmod", Path: p.at(name), Err: err}
	}
	return p.finish(name, who, timespec(a.Timestamp))
}

// finish gives something new its owner and time.
func (p *dir) finish(name string, who *owner, time *unix.Timespec) error {
	if who == nil {
		who = new(owner)
	}
	if err := p.setOwner(name, *who); err != nil {
		return err
	}
	if time != nil {
		if err := setTimes(p.fd, name, *time, *time); err != nil {
			return &fs.PathError{Op: "utimes", Path: p.at(name), Err: err}
		}
	}
	return nil
}

// symlink makes a link, where nothing is.
func (d *dest) symlink(a *pb.FileActionSymlink, who *owner) error {
	parts, err := d.resolve(a.Newpath)
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		return &fs.PathError{Op: "symlink", Path: "/", Err: unix.EEXIST}
	}
	p, name, err := d.parent(parts)
	if err != nil {
		return err
	}
	defer p.release()
	e, err := p.lookup(name)
	if err != nil {
		return err
	}
	if e.exists() {
		return &fs.PathError{Op: "symlink", Path: p.at(name), Err: unix.EEXIST}
	}
	if err := p.uncover(name, &e); err != nil {
		return err
	}
	if err := unix.Symlinkat(a.Oldpath, p.fd, name); err != nil {
		return &fs.PathError{Op: "symlink", Path: p.at(name), Err: err}
	}
	return p.finish(name, who, timespec(a.Timestamp))
}

// clear makes room for something that is no directory: what is there is removed, unless it is a directory.
func (p *dir) clear(name, op string) error {
	e, err := p.lookup(name)
	if err != nil {
		return err
	}
	if e.isDir() {
		return &fs.PathError{Op: op, Path: p.at(name), Err: unix.EISDIR}
	}
	return p.uncover(name, &e)
}

// uncover sees to it that the writable layer has the directory, and in it nothing called name.
func (p *dir) uncover(name string, e *entry) error {
	if err := p.ensure(); err != nil {
		return err
	}
	if !e.upper && !e.hidden {
		return nil
	}
	if err := unix.Unlinkat(p.fd, name, 0); err != nil {
		return &fs.PathError{Op: "unlink", Path: p.at(name), Err: err}
	}
	return nil
}

// rm removes what a path or pattern stands for.
func (d *dest) rm(a *pb.FileActionRm) error {
	if !a.AllowWildcard {
		return d.remove(a.Path, a.AllowNotFound)
	}
	found, err := d.glob(path.Join("/", a.Path))
	if err != nil {
		return err
	}
	for _, name := range found {
		if err := d.remove(name, a.AllowNotFound); err != nil {
			return err
		}
	}
	return nil
}

// remove removes one file or tree. Links are followed in the directory part only.
func (d *dest) remove(name string, missing bool) error {
	dirName, base := path.Split(path.Join("/", name))
	if base == "" {
		return &fs.PathError{Op: "rm", Path: "/", Err: unix.EINVAL}
	}
	parts, err := d.resolve(dirName)
	if err != nil {
		return err
	}
	p, err := d.open(parts)
	if err != nil && !missing {
		return err
	}
	if p == nil {
		if missing {
			return nil
		}
		return &fs.PathError{Op: "rm", Path: name, Err: unix.ENOENT}
	}
	defer p.release()
	e, err := p.lookup(base)
	if err != nil {
		return err
	}
	if !e.exists() {
		if missing {
			return nil
		}
		return &fs.PathError{Op: "rm", Path: name, Err: unix.ENOENT}
	}
	return p.delete(base, &e)
}

// delete removes what lookup has found; what is below the writable layer is hidden by a whiteout.
func (p *dir) delete(name string, e *entry) error {
	if err := p.ensure(); err != nil {
		return err
	}
	if e.upper {
		if err := sys.RemoveAllAt(p.fd, name); err != nil {
			return fmt.Errorf("rm %s: %w", p.at(name), err)
		}
	}
	var st unix.Stat_t
	if p.lower < 0 {
		return nil
	}
	err := unix.Fstatat(p.lower, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "stat", Path: p.at(name), Err: err}
	}
	if err := unix.Mknodat(p.fd, name, unix.S_IFCHR, 0); err != nil {
		return &fs.PathError{Op: "whiteout", Path: p.at(name), Err: err}
	}
	return nil
}

// glob finds what matches a pattern in the tree. Links are followed before the first wildcard only, and no wildcard stands
// for a slash.
func (d *dest) glob(pattern string) ([]string, error) {
	parts := strings.Split(strings.TrimPrefix(pattern, "/"), "/")
	first := slices.IndexFunc(parts, treesum.HasWildcards)
	if first < 0 {
		return []string{pattern}, nil
	}
	above, err := d.resolve("/" + path.Join(parts[:first]...))
	if err != nil {
		return nil, err
	}
	p, err := d.open(above)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return nil, &fs.PathError{Op: "open", Path: "/" + path.Join(above...), Err: unix.ENOENT}
	}
	defer p.release()
	return p.glob(parts[first:])
}

func (p *dir) glob(parts []string) ([]string, error) {
	names, err := p.names()
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var found []string
	for _, name := range names {
		if ok, _ := filepath.Match(parts[0], name); !ok {
			continue
		}
		if len(parts) == 1 {
			found = append(found, p.at(name))
			continue
		}
		e, err := p.lookup(name)
		if err != nil {
			return nil, err
		}
		if !e.isDir() {
			continue
		}
		sub, err := p.enter(name, &e)
		if err != nil {
			return nil, err
		}
		more, err := sub.glob(parts[1:])
		sub.release()
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}
