package move

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/chunk"
)

// packKept is how long what a broken move has received waits for the next attempt.
const packKept = 24 * time.Hour

// pack is the pieces that were received, as the frames that they came in, in a file: of this attempt and of earlier ones.
type pack struct {
	dir   string
	open  func(k kind, b, room []byte) ([]byte, error)
	files []*packFile // the last one is written to
	where map[chunk.Sum]packPlace
	at    packPlace // of the frame in frame; size 0 for none
	frame []byte
	room  []byte
}

type packFile struct {
	f    *os.File
	size int64
	used bool
}

// packPlace is where a piece is: in which file, where its frame begins, and where the piece is in that.
type packPlace struct {
	file        int32
	from, size  int32 // in the frame
	frame       int64
	frameLength int32
}

// openPack begins a pack and takes over what earlier attempts to move the same thing have left. open decompresses frames.
func openPack(dir, item string, open func(kind, []byte, []byte) ([]byte, error)) (*pack, error) {
	p := &pack{dir: dir, open: open, where: map[chunk.Sum]packPlace{}}
	sum := chunk.SumOf([]byte(item))
	key := hex.EncodeToString(sum[:8])
	old, err := filepath.Glob(filepath.Join(dir, key+"-*.pack"))
	if err != nil {
		return nil, err
	}
	for _, name := range old {
		if err := p.adopt(name); err != nil {
			return nil, errors.Join(err, p.close(false))
		}
	}
	f, err := os.CreateTemp(dir, key+"-*.pack")
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		p.files = append(p.files, &packFile{f: f, used: true})
	}
	if err != nil {
		return nil, errors.Join(err, p.close(false))
	}
	return p, nil
}

// adopt takes over what an attempt has left that is over.
func (p *pack) adopt(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return nil //nolint:nilerr // it has gone meanwhile
	}
	fi, err := f.Stat()
	if err != nil || !own(f) {
		return errors.Join(err, f.Close())
	}
	if time.Since(fi.ModTime()) > packKept || fi.Size() == 0 {
		return errors.Join(os.Remove(name), f.Close())
	}
	p.files = append(p.files, &packFile{f: f})
	p.scan(len(p.files) - 1)
	return nil
}

// Tidy removes what was kept of moves that nobody has begun again.
func (m *Mover) Tidy() error {
	old, err := filepath.Glob(filepath.Join(m.packs(), "*.pack"))
	if err != nil {
		return err
	}
	for _, name := range old {
		f, err := os.Open(name)
		if err != nil {
			continue // It has gone meanwhile.
		}
		fi, err := f.Stat()
		if err == nil && time.Since(fi.ModTime()) > packKept && unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			err = os.Remove(name)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// overWithin is how long a move may take to notice that it is over, when somebody has ended it to begin it again.
const overWithin = time.Second

// own locks a file that nobody writes to any more.
func own(f *os.File) bool {
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			return true
		}
		if time.Since(begun) > overWithin {
			return false
		}
	}
}

// scan finds the pieces in a file. What is broken, as the end of one whose writer was killed, is left out.
func (p *pack) scan(file int) {
	pf := p.files[file]
	r := bufio.NewReaderSize(pf.f, 1<<20)
	var head [5]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		k, n := kind(head[0]), int(binary.BigEndian.Uint32(head[1:]))
		if n > maxFrame || k != kindOps && k != kindPacked {
			return
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
		raw, err := p.open(k, b, p.room)
		if err != nil || p.note(file, pf.size, n, raw) != nil {
			return
		}
		pf.size += int64(len(head) + n)
	}
}

// note remembers the pieces of a frame.
func (p *pack) note(file int, at int64, length int, raw []byte) error {
	src := bytes.NewReader(raw)
	r := chunk.NewReader(src)
	from := 0
	for {
		op, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		from += opHead(op)
		if op.Piece && op.Bytes != nil {
			p.where[op.Sum] = packPlace{file: int32(file), from: int32(from), size: int32(op.Size), frame: at, frameLength: int32(length)}
		}
		from += len(op.Bytes)
		if op.Piece && op.Bytes == nil {
			from += len(op.Sum)
		}
	}
}

// opHead is how many bytes an operation has in front of its own.
func opHead(op chunk.Op) int { return 1 + len(binary.AppendUvarint(nil, uint64(op.Size))) }

// add keeps a frame as it came; raw are the operations that it holds, or nil if nothing of it will be read by this attempt.
func (p *pack) add(k kind, b, raw []byte) error {
	pf := p.files[len(p.files)-1]
	var head [5]byte
	head[0] = byte(k)
	binary.BigEndian.PutUint32(head[1:], uint32(len(b)))
	if _, err := pf.f.Write(head[:]); err != nil {
		return err
	}
	if _, err := pf.f.Write(b); err != nil {
		return err
	}
	if err := p.note(len(p.files)-1, pf.size, len(b), raw); err != nil {
		return err
	}
	pf.size += int64(len(head) + len(b))
	return nil
}

func (p *pack) empty() bool { return len(p.where) == 0 }

func (p *pack) has(sum chunk.Sum) bool {
	_, ok := p.where[sum]
	return ok
}

// read returns a piece, valid until the next call.
func (p *pack) read(sum chunk.Sum) ([]byte, error) {
	w, ok := p.where[sum]
	if !ok {
		return nil, fmt.Errorf("a piece was to come and did not: %w", errdefs.ErrInvalidArgument)
	}
	if w.file != p.at.file || w.frame != p.at.frame || p.at.size == 0 {
		if err := p.load(w); err != nil {
			return nil, err
		}
	}
	if int(w.from+w.size) > len(p.frame) {
		return nil, errPack
	}
	b := p.frame[w.from : w.from+w.size]
	if chunk.SumOf(b) != sum {
		return nil, errPack
	}
	p.files[w.file].used = true
	return b, nil
}

var errPack = fmt.Errorf("what was kept of the move is damaged: %w", errdefs.ErrDataLoss)

func (p *pack) load(w packPlace) error {
	p.at = packPlace{}
	b := make([]byte, 5+int(w.frameLength))
	if _, err := p.files[w.file].f.ReadAt(b, w.frame); err != nil {
		return fmt.Errorf("read what was received: %w", err)
	}
	raw, err := p.open(kind(b[0]), b[5:], p.room)
	if err != nil {
		return err
	}
	if cap(raw) > cap(p.room) && kind(b[0]) == kindPacked {
		p.room = raw
	}
	p.frame, p.at = raw, w
	p.at.size = max(w.size, 1)
	return nil
}

// close ends the use of the pack. After a success it goes, with what was of use of earlier attempts.
func (p *pack) close(success bool) error {
	var errs []error
	for _, pf := range p.files {
		if success && pf.used || pf.size == 0 {
			errs = append(errs, os.Remove(pf.f.Name()))
		}
		errs = append(errs, pf.f.Close())
	}
	return errors.Join(errs...)
}
