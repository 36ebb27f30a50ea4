package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// tarBlock is what the format counts in.
const tarBlock = 512

// listing is an open directory, with what a tree under it has in its place.
type listing struct {
	upper, lower *os.File // lower is nil if there is none
	entries      []listed
}

// listed is a name in a directory.
type listed struct {
	base  string
	upper bool
	lower bool
}

func openListing(dir *item) (_ *listing, err error) {
	d := new(listing)
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	var names, below []string
	if d.upper, names, err = readSorted(dir.dirfd, dir.base); err != nil {
		return nil, err
	}
	if dir.under >= 0 {
		if d.lower, below, err = readSorted(dir.under, dir.base); err != nil {
			return nil, err
		}
	}
	d.entries = make([]listed, 0, max(len(names), len(below)))
	for len(names) > 0 || len(below) > 0 {
		switch {
		case len(below) == 0 || len(names) > 0 && names[0] < below[0]:
			d.entries, names = append(d.entries, listed{names[0], true, false}), names[1:]
		case len(names) == 0 || below[0] < names[0]:
			d.entries, below = append(d.entries, listed{below[0], false, true}), below[1:]
		default:
			d.entries, names, below = append(d.entries, listed{names[0], true, true}), names[1:], below[1:]
		}
	}
	return d, nil
}

func readSorted(dirfd int, base string) (*os.File, []string, error) {
	fd, err := unix.Openat(dirfd, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	f := os.NewFile(uintptr(fd), base)
	names, err := f.Readdirnames(-1)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, errors.Join(err, f.Close())
	}
	slices.Sort(names)
	return f, names, nil
}

func (d *listing) close() {
	for _, f := range []*os.File{d.upper, d.lower} {
		if f != nil {
			f.Close()
		}
	}
}

// item looks at one entry of the directory.
func (d *listing) item(dir *item, e listed) (*item, error) {
	it := &item{base: e.base, name: e.base, under: -1}
	if dir.name != "" {
		it.name = dir.name + "/" + e.base
	}
	if !e.upper {
		it.dirfd = int(d.lower.Fd())
		return it, unix.Fstatat(it.dirfd, e.base, &it.st, unix.AT_SYMLINK_NOFOLLOW)
	}
	it.dirfd = int(d.upper.Fd())
	if err := unix.Fstatat(it.dirfd, e.base, &it.st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, err
	}
	if !e.lower || it.st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return it, nil
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(d.lower.Fd()), e.base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		it.under = int(d.lower.Fd())
	}
	return it, nil
}

// mark tells of the entry that comes next, if it is time.
func (p *packer) mark(it *item) error {
	if p.o.Mark == nil || p.since < p.o.MarkEvery {
		return nil
	}
	if err := p.tar.Flush(); err != nil {
		return fmt.Errorf("write tar: %w", err)
	}
	if err := p.out.Flush(); err != nil {
		return fmt.Errorf("write tar: %w", err)
	}
	p.since = 0
	return p.o.Mark(it.name)
}

// begin goes on along the way to where archiving begins.
func (p *packer) begin(it *item, from []string) error {
	if it.base != from[0] {
		return p.lost(it.name)
	}
	if len(from) == 1 {
		return p.add(it)
	}
	if it.st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return p.lost(it.name)
	}
	p.from = from[1:]
	return p.children(it)
}

func (p *packer) lost(at string) error {
	return fmt.Errorf("archive from %s on: it is not there, only %s is: %w", p.o.From, strings.TrimPrefix(at, "/"), errdefs.ErrNotFound)
}
