package logfile

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"
)

// segment is one file of a log, opened for reading.
type segment struct {
	f        *os.File
	packed   bool
	unpacker io.Reader
	id       identity // of the plain file, also when it is compressed now
	name     string
	modified time.Time
	newest   bool
	pos      int64 // of the first byte not handed out yet
	headed   bool  // its header has been seen
	skip     bool  // tail wants nothing of it
	surplus  int   // records to leave out first: tail could not position before the ones it wants
}

func (s *segment) close() { s.f.Close() }

// read reads bytes at ahead bytes behind the segment's position.
func (s *segment) read(b []byte, ahead int64) (int, error) {
	if s.packed {
		return s.unpacker.Read(b)
	}
	n, err := s.f.ReadAt(b, s.pos+ahead)
	return n, err
}

// rewindTruncated goes back to the beginning of a file that somebody has emptied.
func (s *segment) rewindTruncated() error {
	if s.packed || s.pos == 0 {
		return nil
	}
	info, err := s.f.Stat()
	if err != nil {
		return err
	}
	if info.Size() < s.pos {
		s.pos = 0
	}
	return nil
}

func ignoreEOF(err error) error {
	// A compressed file that ends early was damaged: what could be read has been handed out.
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, gzip.ErrChecksum) {
		return nil
	}
	return fmt.Errorf("read log: %w", err)
}

// errMoved says that files were renamed while they were opened.
var errMoved = errors.New("rotated meanwhile")

// openSegments opens the log's files, oldest first.
func openSegments(path string) ([]*segment, error) {
	var err error
	for try := range 200 {
		var segments []*segment
		if segments, err = openOnce(path); err == nil {
			slices.Reverse(segments)
			return segments, nil
		}
		if !errors.Is(err, errMoved) {
			return nil, err
		}
		if try > 10 {
			time.Sleep(time.Millisecond)
		}
	}
	return nil, err
}

// openOnce opens the files, newest first, and checks that nothing moved in between. See the package's documentation.
func openOnce(path string) (segments []*segment, err error) {
	defer func() {
		if err != nil {
			for _, s := range segments {
				s.close()
			}
		}
	}()
	missing := 0
	for n := 0; missing < 2; n++ { // during a rotation one number may be free
		name := path
		if n > 0 {
			name = rotated(path, n)
		}
		s, err := openSegment(name)
		if err != nil {
			return segments, err
		}
		if s == nil {
			missing++
			continue
		}
		missing = 0
		s.newest = n == 0
		if slices.ContainsFunc(segments, func(o *segment) bool { return o.same(s) }) {
			s.close()
			return segments, errMoved
		}
		segments = append(segments, s)
	}
	if len(segments) > 0 && !segments[0].newest {
		if _, err := os.Lstat(path); err == nil {
			return segments, errMoved
		}
	}
	for _, s := range segments {
		if info, err := os.Stat(s.name); err != nil || !sameFile(s, info) {
			return segments, errMoved
		}
	}
	return segments, nil
}

// same says whether two segments are the same file, or one the compressed form of the other.
func (s *segment) same(o *segment) bool {
	if s.id.inode != o.id.inode {
		return false
	}
	if !s.packed && !o.packed {
		return true // both are open: no number is in use twice
	}
	for _, x := range []*segment{s, o} {
		if info, err := x.f.Stat(); err == nil && !x.packed {
			x.id = identify(info)
		}
	}
	return s.id == o.id
}

func sameFile(s *segment, info fs.FileInfo) bool {
	own, err := s.f.Stat()
	return err == nil && os.SameFile(own, info)
}

// openSegment opens a file or its compressed form; nil means that neither is there.
func openSegment(name string) (*segment, error) {
	f, err := os.Open(name)
	if err == nil {
		info, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		return &segment{f: f, name: name, id: identify(info), modified: info.ModTime()}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	name += packedSuffix
	if f, err = os.Open(name); err != nil {
		return nil, ignoreMissing(err)
	}
	s := &segment{f: f, name: name, packed: true}
	if info, err := f.Stat(); err == nil {
		s.id = identify(info) // of the compressed file itself, unless its header knows better
	}
	if err := s.unpack(); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// unpack begins to read a compressed file from its start.
func (s *segment) unpack() error {
	if _, err := s.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	z, err := gzip.NewReader(bufio.NewReader(s.f))
	if err != nil {
		return err
	}
	s.unpacker, s.pos, s.modified = z, 0, z.ModTime
	if id, ok := origin(z.Extra); ok {
		s.id = id
	}
	return nil
}
