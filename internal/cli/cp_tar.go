package cli

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// pack writes a file or directory as a tar archive whose root is called base, and returns the bytes of its files.
func pack(w io.Writer, src, base string) (int64, error) {
	tw := tar.NewWriter(w)
	var total int64
	root := filepath.Clean(src)
	links := map[inode]string{}
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		n, err := packOne(tw, p, filepath.Join(base, rel), links)
		total += n
		return err
	})
	if err != nil {
		return total, fmt.Errorf("read %s: %w", src, err)
	}
	return total, tw.Close()
}

// inode is what two names of one file have in common.
type inode struct{ dev, ino uint64 }

func packOne(tw *tar.Writer, file, name string, links map[inode]string) (int64, error) {
	info, err := os.Lstat(file)
	if err != nil {
		return 0, err
	}
	if info.Mode()&os.ModeSocket != 0 {
		return 0, nil // an archive cannot hold one
	}
	target := ""
	if info.Mode()&os.ModeSymlink != 0 {
		if target, err = os.Readlink(file); err != nil {
			return 0, err
		}
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return 0, err
	}
	h.Name = filepath.ToSlash(name)
	h.Format, h.Uname, h.Gname = tar.FormatPAX, "", ""
	if info.IsDir() {
		h.Name += "/"
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().IsRegular() && st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, seen := links[id]; seen {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return 0, tw.WriteHeader(h)
		}
		links[id] = h.Name
	}
	if err := tw.WriteHeader(h); err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	// A file that grows meanwhile is cut, one that shrinks fails.
	n, err := io.Copy(tw, io.LimitReader(f, h.Size))
	if err == nil && n < h.Size {
		err = fmt.Errorf("%s became shorter while it was copied", file)
	}
	return n, err
}

// unpack writes an archive's root as target, which may be a directory already. Nothing is written outside of it, whatever
// the archive says: the container made it.
func unpack(r io.Reader, target string, owners bool) (int64, error) {
	parent, err := os.OpenRoot(filepath.Dir(target))
	if err != nil {
		return 0, err
	}
	defer parent.Close()
	u := &unpacker{root: parent, base: filepath.Base(target), owners: owners && os.Geteuid() == 0}
	if u.base == "." || u.base == ".." || u.base == "/" {
		dir, err := os.OpenRoot(target)
		if err != nil {
			return 0, err
		}
		defer dir.Close()
		u.root, u.base = dir, "."
	}
	return u.all(r)
}

// unpackInto writes what an archive holds into a directory that is there.
func unpackInto(r io.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	u := &unpacker{root: root, base: ".", prefix: ".", began: true}
	_, err = u.all(r)
	return err
}

func (u *unpacker) all(r io.Reader) (int64, error) {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return u.total, u.finish()
		}
		if err != nil {
			return u.total, fmt.Errorf("read the archive: %w", err)
		}
		if err := u.entry(h, tr); err != nil {
			return u.total, err
		}
	}
}

type unpacker struct {
	root   *os.Root
	base   string
	prefix string
	began  bool
	owners bool
	total  int64
	// dirs get their times and modes last, when nothing is written into them any more.
	dirs []*tar.Header
	// skipped are the devices, which are not made.
	skipped []string
}

// place maps an archive's name to one inside of root: the archive's own root becomes base.
func (u *unpacker) place(name string) (string, error) {
	name = filepath.Clean(strings.TrimPrefix(name, "/"))
	if !u.began {
		u.began, u.prefix = true, name
	}
	switch {
	case name == u.prefix:
		return u.base, nil
	case u.prefix == ".":
		return filepath.Join(u.base, name), inside(name)
	}
	rest, ok := strings.CutPrefix(name, u.prefix+"/")
	if !ok {
		return "", fmt.Errorf("the container's archive holds %q, which is not in %q", name, u.prefix)
	}
	return filepath.Join(u.base, rest), inside(rest)
}

func inside(rel string) error {
	if !filepath.IsLocal(rel) {
		return fmt.Errorf("the container's archive holds a path that leads outside: %q", rel)
	}
	return nil
}

func (u *unpacker) entry(h *tar.Header, r io.Reader) error {
	p, err := u.place(h.Name)
	if err != nil {
		return err
	}
	h.Name = p
	if h.Typeflag == tar.TypeDir {
		return u.dir(h)
	}
	if st, err := u.root.Lstat(p); err == nil {
		if st.IsDir() {
			return fmt.Errorf("cannot copy a file over the directory %s", p)
		}
		if err := u.root.Remove(p); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return u.file(h, r)
	case tar.TypeSymlink:
		if err := u.root.Symlink(h.Linkname, p); err != nil {
			return err
		}
		return u.own(h)
	case tar.TypeLink:
		old, err := u.place(h.Linkname)
		if err != nil {
			return err
		}
		return u.root.Link(old, p)
	}
	if h.Typeflag == tar.TypeFifo {
		return u.pipe(h)
	}
	// A container makes devices of its own, which it cannot use; here they would be this machine's.
	u.skipped = append(u.skipped, p)
	return nil
}

// pipe makes a named pipe.
func (u *unpacker) pipe(h *tar.Header) error {
	dir, err := u.root.Open(filepath.Dir(h.Name))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Mkfifoat(int(dir.Fd()), filepath.Base(h.Name), 0o600); err != nil {
		return fmt.Errorf("make the pipe %s: %w", h.Name, err)
	}
	return u.dress(h)
}

func (u *unpacker) dir(h *tar.Header) error {
	err := u.root.Mkdir(h.Name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		st, serr := u.root.Stat(h.Name)
		if serr == nil && !st.IsDir() {
			return fmt.Errorf("cannot copy a directory over the file %s", h.Name)
		}
		return serr // an existing directory stays as it is
	}
	if err != nil {
		return err
	}
	u.dirs = append(u.dirs, h)
	return nil
}

func (u *unpacker) file(h *tar.Header, r io.Reader) error {
	f, err := u.root.OpenFile(h.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, r)
	u.total += n
	if err := errors.Join(err, f.Close()); err != nil {
		_ = u.root.Remove(h.Name) // Half a file is worse than none, and may be what fills the disk.
		return fmt.Errorf("write %s: %w", h.Name, err)
	}
	return u.dress(h)
}

func (u *unpacker) own(h *tar.Header) error {
	if !u.owners {
		return nil
	}
	return u.root.Lchown(h.Name, h.Uid, h.Gid)
}

// dress gives a file its owner, mode and time. Bits that give rights to whoever runs it are only kept with its owner.
func (u *unpacker) dress(h *tar.Header) error {
	if err := u.own(h); err != nil {
		return err
	}
	mode := h.FileInfo().Mode()
	if !u.owners {
		mode = mode.Perm()
	}
	if err := u.root.Chmod(h.Name, mode); err != nil {
		return err
	}
	return u.root.Chtimes(h.Name, h.ModTime, h.ModTime)
}

func (u *unpacker) finish() error {
	for i := len(u.dirs) - 1; i >= 0; i-- {
		if err := u.dress(u.dirs[i]); err != nil {
			return err
		}
	}
	if len(u.skipped) > 0 {
		return &hintedError{
			err: fmt.Errorf("%s is a device and was not copied; everything else was", strings.Join(u.skipped, ", ")),
			try: "leave devices out, or kist cp CONTAINER:PATH - for all of it as a tar archive", code: "not-copied",
		}
	}
	return nil
}
