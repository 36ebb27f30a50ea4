package logfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// Writer takes the output of one container. Its methods are safe for concurrent use by the copiers of stdout and
// stderr. While nothing is written it holds a descriptor and a few hundred bytes.
type Writer struct {
	c      Config
	format format

	mu         sync.Mutex // guards all below
	file       *os.File
	size       int64
	held       [2]held
	packing    *packing // the compression of the file rotated last, while it runs
	closed     bool
	recordless bool // nothing but the header is in the file
}

// held is the unfinished line of a stream.
type held struct {
	text []byte
	at   time.Time // when its first part came, once a part was written; else zero
}

var _ io.Closer = (*Writer)(nil)

// buffers hold encoded records between Write calls of all writers.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// Open opens the log for appending. A partial record left by a crash is repaired first.
func Open(c Config) (*Writer, error) {
	w := &Writer{c: c}
	switch c.Driver {
	case driverNone:
		return w, nil
	case driverJSON, driverLocal:
		w.format = newFormat(c.Driver, c.Attrs)
	default:
		return nil, fmt.Errorf("open log: driver %q: %w", c.Driver, errdefs.ErrInvalidArgument)
	}
	f, err := os.OpenFile(c.Path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	size, err := repair(f, w.format)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("repair log %s: %w", c.Path, err)
	}
	w.file, w.size = f, size
	if err := w.begin(); err != nil {
		f.Close()
		return nil, err
	}
	return w, nil
}

// begin writes the header into an empty file. A file that goes on after a restart keeps the header it has.
func (w *Writer) begin() error {
	if w.size > 0 {
		w.recordless = false
		return nil
	}
	w.recordless = true
	h := w.format.header(w.c.Attrs)
	if len(h) == 0 {
		return nil
	}
	return w.put(h)
}

// repair cuts off a torn last record and returns the file's length.
func repair(f *os.File, format format) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	size := info.Size()
	if size == 0 {
		return 0, nil
	}
	for _, n := range []int64{4 << 10, 64 << 10, 4 * maxRecord} {
		whole := n >= size || n == 4*maxRecord
		tail := make([]byte, min(n, size))
		if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil {
			return 0, err
		}
		good := format.sound(tail, whole)
		if good < 0 {
			continue
		}
		if good == len(tail) {
			return size, nil
		}
		size -= int64(len(tail) - good)
		return size, f.Truncate(size)
	}
	return size, nil
}

// Write adds raw output of a stream ("stdout" or "stderr"), cut into records at newlines; a line longer than 16 KiB is
// written in parts, as docker does. An unfinished last line is held until its rest arrives or Close is called.
func (w *Writer) Write(stream string, p []byte, at time.Time) error {
	if w.c.Driver == driverNone {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return os.ErrClosed
	}
	out := buffers.Get().(*[]byte) //nolint:forcetypeassert // nothing else is put there
	defer func() {
		if cap(*out) <= 256<<10 {
			*out = (*out)[:0]
			buffers.Put(out)
		}
	}()
	h := &w.held[index(stream)]
	var errs []error
	for len(p) > 0 {
		line, rest := nextLine(p, partSize-len(h.text))
		p = rest
		complete := line[len(line)-1] == '\n'
		if !complete && len(h.text)+len(line) < partSize {
			h.text = append(h.text, line...)
			break
		}
		if err := w.add(out, stream, h, line, complete, at); err != nil {
			errs = append(errs, err)
		}
	}
	errs = append(errs, w.flush(out))
	return errors.Join(errs...)
}

func index(stream string) int {
	if stream == "stderr" {
		return 1
	}
	return 0
}

// nextLine cuts off the first line with its newline, or what there is of it, but no more than room bytes of text.
func nextLine(p []byte, room int) (line, rest []byte) {
	n := len(p)
	if i := bytes.IndexByte(p, '\n'); i >= 0 {
		n = i + 1
		if i <= room { // the newline itself needs no room
			return p[:n], p[n:]
		}
	}
	n = min(n, room)
	return p[:n], p[n:]
}

// add encodes a record into out: what is held of its line, and the rest of it.
func (w *Writer) add(out *[]byte, stream string, h *held, line []byte, complete bool, at time.Time) error {
	if len(h.text) > 0 {
		h.text = append(h.text, line...)
		line = h.text
	}
	stamp := at
	if !h.at.IsZero() {
		stamp = h.at // docker stamps all parts of a line with the time of the first
	}
	before := len(*out)
	*out = w.format.append(*out, stream, line, stamp)
	h.text = nil
	if complete {
		h.at = time.Time{}
	} else if h.at.IsZero() {
		h.at = at
	}
	record := len(*out) - before
	limit := w.c.maxSize()
	empty := w.recordless && before == 0
	if limit < 0 || empty || w.size+int64(before+record) <= limit {
		if len(*out) >= 128<<10 {
			return w.flush(out)
		}
		return nil
	}
	return w.turn(out, before)
}

// turn writes what precedes the record that begins at before, and rotates.
func (w *Writer) turn(out *[]byte, before int) error {
	head := (*out)[:before]
	var err error
	if len(head) > 0 {
		err = w.put(head)
		w.recordless = false
	}
	*out = append((*out)[:0], (*out)[before:]...)
	return errors.Join(err, w.rotate())
}

func (w *Writer) flush(out *[]byte) error {
	if len(*out) == 0 {
		return nil
	}
	err := w.put(*out)
	*out = (*out)[:0]
	w.recordless = false
	return err
}

// put appends whole records with one system call. What a full disk left of them is taken back.
func (w *Writer) put(b []byte) error {
	if w.file == nil {
		if err := w.create(); err != nil {
			return err
		}
	}
	n, err := w.file.Write(b)
	if err != nil {
		if n > 0 {
			if terr := w.file.Truncate(w.size); terr != nil {
				w.size += int64(n)
			}
		}
		return fmt.Errorf("write log: %w", err)
	}
	w.size += int64(n)
	return nil
}

// Close writes what is held and closes the file. A compression that still runs goes on; Wait waits for it.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.c.Driver == driverNone {
		w.closed = true
		return nil
	}
	var out []byte
	now := time.Now()
	for i, stream := range []string{"stdout", "stderr"} {
		h := &w.held[i]
		if len(h.text) == 0 {
			continue
		}
		if h.at.IsZero() {
			h.at = now
		}
		out = w.format.append(out, stream, h.text, h.at)
		h.text = nil
	}
	err := w.flush(&out)
	w.closed = true
	if w.file == nil {
		return err
	}
	if cerr := w.file.Close(); cerr != nil {
		err = errors.Join(err, fmt.Errorf("close log: %w", cerr))
	}
	w.file = nil
	return err
}
