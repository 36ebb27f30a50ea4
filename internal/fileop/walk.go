package fileop

import (
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// maxLinks is how many links one path may lead through.
const maxLinks = 255

// resolve follows all links of a path inside the tree and returns the components of what it leads to. What is not there
// stays as it is written.
func (d *dest) resolve(name string) ([]string, error) {
	var at []*dir // the directories above what is looked at, from the second on
	defer func() {
		for _, p := range at {
			p.release()
		}
	}()
	var done []string
	todo, links := components(name), maxLinks
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		if part == ".." {
			if len(done) > 0 {
				done = done[:len(done)-1]
			}
			if len(at) > len(done) {
				at[len(at)-1].release()
				at = at[:len(at)-1]
			}
			continue
		}
		here := d.top
		if len(at) > 0 {
			here = at[len(at)-1]
		}
		if len(at) < len(done) { // below something that is not there
			done = append(done, part)
			continue
		}
		e, err := here.lookup(part)
		if err != nil {
			return nil, err
		}
		if e.isLink() {
			if links--; links < 0 {
				return nil, &fs.PathError{Op: "resolve", Path: name, Err: unix.ELOOP}
			}
			target, err := here.readlink(part, &e)
			if err != nil {
				return nil, err
			}
			if path.IsAbs(target) {
				for _, p := range at {
					p.release()
				}
				at, done = nil, nil
			}
			todo = append(components(target), todo...)
			if len(todo) > unix.PathMax {
				return nil, &fs.PathError{Op: "resolve", Path: name, Err: unix.ENAMETOOLONG}
			}
			continue
		}
		if e.isDir() {
			sub, err := here.enter(part, &e)
			if err != nil {
				return nil, err
			}
			at = append(at, sub)
		}
		done = append(done, part)
	}
	return done, nil
}

// components are the parts of a path that mean something.
func components(name string) []string {
	var list []string
	for part := range strings.SplitSeq(name, "/") {
		if part != "" && part != "." {
			list = append(list, part)
		}
	}
	return list
}

// readlink reads a link that lookup has found.
func (p *dir) readlink(name string, e *entry) (string, error) {
	fd := p.lower
	if e.upper {
		fd = p.fd
	}
	target, err := sys.ReadlinkAt(fd, name)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: p.at(name), Err: err}
	}
	return target, nil
}

// open opens the directory that components lead to without links; nil if it is not there.
func (d *dest) open(parts []string) (*dir, error) {
	p := d.top.hold()
	for _, part := range parts {
		e, err := p.lookup(part)
		if err == nil && e.exists() && !e.isDir() {
			err = &fs.PathError{Op: "open", Path: p.at(part), Err: unix.ENOTDIR}
		}
		if err != nil || !e.exists() {
			p.release()
			return nil, err
		}
		sub, err := p.enter(part, &e)
		p.release()
		if err != nil {
			return nil, err
		}
		p = sub
	}
	return p, nil
}

// mkdirAll opens the directory that components lead to and makes what is missing, as want says.
func (d *dest) mkdirAll(parts []string, want newDir) (*dir, error) {
	p := d.top.hold()
	for _, part := range parts {
		e, err := p.lookup(part)
		var sub *dir
		switch {
		case err != nil:
		case !e.exists():
			sub, err = p.mkdir(part, &e, want)
			if err == nil && want.made != nil {
				*want.made = append(*want.made, sub.hold())
			}
		case e.isDir():
			sub, err = p.enter(part, &e)
		default:
			err = &fs.PathError{Op: "mkdir", Path: p.at(part), Err: unix.ENOTDIR}
		}
		p.release()
		if err != nil {
			return nil, err
		}
		p = sub
	}
	return p, nil
}

// newDir says how missing directories are made.
type newDir struct {
	mode uint32
	who  *owner         // nil: root
	time *unix.Timespec // nil: now
	made *[]*dir        // when set, takes the new ones
}

// mkdir makes a directory where lookup has found nothing.
func (p *dir) mkdir(name string, e *entry, want newDir) (*dir, error) {
	if err := p.ensure(); err != nil {
		return nil, err
	}
	if e.hidden {
		if err := unix.Unlinkat(p.fd, name, 0); err != nil {
			return nil, &fs.PathError{Op: "unlink", Path: p.at(name), Err: err}
		}
	}
	if err := unix.Mkdirat(p.fd, name, want.mode&0o777); err != nil {
		return nil, &fs.PathError{Op: "mkdir", Path: p.at(name), Err: err}
	}
	made := entry{upper: true}
	sub, err := p.enter(name, &made)
	if err != nil {
		return nil, err
	}
	sub.fresh = true
	if err := sub.dress(want, e.hidden); err != nil {
		sub.release()
		return nil, err
	}
	return sub, nil
}

// dress gives a new directory its attributes. One that takes the place of something that was removed must not show what
// was there.
func (p *dir) dress(want newDir, opaque bool) error {
	who := owner{}
	if want.who != nil {
		who = *want.who
	}
	if opaque {
		if err := unix.Fsetxattr(p.fd, p.d.prefix+"opaque", []byte("y"), 0); err != nil {
			return &fs.PathError{Op: "setxattr", Path: p.path(), Err: err}
		}
	}
	if err := p.parent.setOwner(p.name, who); err != nil {
		return err
	}
	if want.mode&0o7777&(p.d.umask|0o7000) != 0 || p.parent.inherits() {
		if err := unix.Fchmod(p.fd, want.mode&0o7777); err != nil {
			return &fs.PathError{Op: "chmod", Path: p.path(), Err: err}
		}
	}
	if want.time != nil {
		if err := setTimes(p.fd, ".", *want.time, *want.time); err != nil {
			return &fs.PathError{Op: "utimes", Path: p.path(), Err: err}
		}
	}
	return unix.Fstat(p.fd, &p.st)
}
