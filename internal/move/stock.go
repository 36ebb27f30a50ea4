package move

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/chunk"
	"github.com/kistdev/kist/internal/sys"
)

// Bounds of what is known of what is here: pieces held in memory, and bytes of files that are looked through for one move: of
// layers that are likely to have something in common with what comes, and of others. Reading a gigabyte takes longer than
// sending a good part of it.
const (
	maxStock     = 500_000
	maxRelatives = 4 << 30
	maxOthers    = 64 << 20
)

// stock is the pieces of files that are here.
type stock struct {
	where map[chunk.Sum]stockPlace
	files []stockFile
	roots []*stockRoot

	open   *os.File // the file that was read last
	opened int32
	buf    []byte
}

type stockFile struct {
	root int32
	path string
}

type stockPlace struct {
	file, size int32
	off        int64
}

func newStock() *stock { return &stock{where: map[chunk.Sum]stockPlace{}, opened: -1} }

func (s *stock) empty() bool { return len(s.where) == 0 }
func (s *stock) full() bool  { return len(s.where) >= maxStock }

func (s *stock) has(sum chunk.Sum) bool {
	_, ok := s.where[sum]
	return ok
}

// stockRoot is a tree that is opened when a piece is read from it.
type stockRoot struct {
	open func() (*sys.Root, error)
	root *sys.Root
}

func (r *stockRoot) get() (_ *sys.Root, err error) {
	if r.root == nil {
		r.root, err = r.open()
	}
	return r.root, err
}

// addRoot makes a tree's files some that pieces may be in. The stock closes it.
func (s *stock) addRoot(open func() (*sys.Root, error)) int32 {
	s.roots = append(s.roots, &stockRoot{open: open})
	return int32(len(s.roots) - 1)
}

// listed is one file and its pieces.
type listed struct {
	path   string
	sums   []chunk.Sum
	pieces []int32 // their sizes
}

// add adds a file's pieces.
func (s *stock) add(root int32, f *listed) {
	if len(f.sums) == 0 || s.full() {
		return
	}
	s.files = append(s.files, stockFile{root, f.path})
	off := int64(0)
	for i, sum := range f.sums {
		if _, ok := s.where[sum]; !ok {
			s.where[sum] = stockPlace{file: int32(len(s.files) - 1), size: f.pieces[i], off: off}
		}
		off += int64(f.pieces[i])
	}
}

// read returns a piece, valid until the next call. It is verified: files may have changed.
func (s *stock) read(sum chunk.Sum) ([]byte, error) {
	w := s.where[sum]
	if w.file != s.opened {
		f := s.files[w.file]
		root, err := s.roots[f.root].get()
		if err != nil {
			return nil, err
		}
		opened, err := root.OpenRegular(f.path)
		if err != nil {
			return nil, fmt.Errorf("read a piece that was here: %w: %w", err, errStock)
		}
		if s.open != nil {
			_ = s.open.Close() // It was only read.
		}
		s.open, s.opened = opened, w.file
	}
	if s.buf == nil {
		s.buf = make([]byte, chunk.Max)
	}
	b := s.buf[:w.size]
	if _, err := s.open.ReadAt(b, w.off); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read a piece that was here: %w", err)
	}
	if chunk.SumOf(b) != sum {
		return nil, errStock
	}
	return b, nil
}

// errStock is about a file that is not what it was when it was looked through.
var errStock = fmt.Errorf("a file that pieces were to be taken from has changed; run the command again: %w", errdefs.ErrUnavailable)

func (s *stock) end() error {
	var errs []error
	if s.open != nil {
		errs = append(errs, s.open.Close())
	}
	for _, r := range s.roots {
		if r.root != nil {
			errs = append(errs, r.root.Close())
		}
	}
	return errors.Join(errs...)
}

// lookThrough calls fn for each regular file of a tree that may have pieces, and returns how many bytes it has read.
func lookThrough(ctx context.Context, root *sys.Root, fn func(*listed) error) (read int64, err error) {
	top := sys.FDPath(root.Fd())
	err = filepath.WalkDir(top+"/", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // what cannot be read has no pieces
		}
		if cerr := context.Cause(ctx); cerr != nil {
			return cerr
		}
		if !d.Type().IsRegular() {
			return nil
		}
		rel, err := filepath.Rel(top, name)
		if err != nil {
			return err
		}
		f, err := listFile(root, rel)
		if err != nil || f == nil {
			return nil //nolint:nilerr // as above
		}
		for _, n := range f.pieces {
			read += int64(n)
		}
		return fn(f)
	})
	return read, err
}

// listFile cuts one file; nil if it is not worth it.
func listFile(root *sys.Root, name string) (*listed, error) {
	f, err := root.OpenRegular(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || fi.Size() < chunk.Least {
		return nil, err
	}
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_SEQUENTIAL) // Only a hint.
	l := &listed{path: name}
	err = chunk.Split(f, func(p []byte) error {
		l.sums, l.pieces = append(l.sums, chunk.SumOf(p)), append(l.pieces, int32(len(p)))
		return nil
	})
	return l, err
}
