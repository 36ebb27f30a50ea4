package logfile

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
)

// ReadOptions choose records, as docker logs does. As with docker, Tail counts records of both streams, before Since
// and Until choose among them.
type ReadOptions struct {
	Stdout, Stderr bool
	Since, Until   time.Time
	// Tail is the number of last lines; negative means all.
	Tail int
	// Follow goes on as records are added, over rotations, until ctx ends or Done is closed (and then to the end of what
	// is written).
	Follow bool
	Done   <-chan struct{}
}

// Read calls fn for each chosen record in order, rotated files included. For driver "none" it is an
// errdefs.ErrNotImplemented with docker's words. It returns ctx's error when ctx ended it.
func Read(ctx context.Context, c Config, o ReadOptions, fn func(Record) error) error {
	switch c.Driver {
	case driverNone:
		return errdefs.ErrNotImplemented.WithMessage("configured logging driver does not support reading")
	case driverJSON, driverLocal:
	default:
		return fmt.Errorf("read log: driver %q: %w", c.Driver, errdefs.ErrInvalidArgument)
	}
	r := &reader{c: c, o: o, fn: fn, format: newFormat(c.Driver, nil)}
	defer r.close()
	if !o.Follow {
		return r.all(ctx)
	}
	return r.follow(ctx)
}

// reader is one Read.
type reader struct {
	c      Config
	o      ReadOptions
	fn     func(Record) error
	format format
	buf    []byte

	current *segment // the file that is being followed
	over    bool     // Until was reached
}

func (r *reader) close() {
	if r.current != nil {
		r.current.close()
	}
}

// all reads what is there. The last file stays open as r.current.
func (r *reader) all(ctx context.Context) error {
	segments, err := openSegments(r.c.Path)
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	defer func() {
		for _, s := range segments {
			s.close()
		}
	}()
	if r.o.Tail >= 0 {
		if err := r.tail(ctx, segments); err != nil {
			return err
		}
	}
	for len(segments) > 0 {
		s := segments[0]
		if err := r.drain(ctx, s); err != nil {
			return err
		}
		segments = segments[1:]
		r.advance(s)
	}
	return nil
}

// advance makes a file that has been read the current one.
func (r *reader) advance(s *segment) {
	r.close()
	r.current = s
}

// drain reads a segment to its end.
func (r *reader) drain(ctx context.Context, s *segment) error {
	if s.skip || r.over {
		return nil
	}
	if !s.packed && !r.o.Since.IsZero() && s.pos == 0 && s.modified.Before(r.o.Since) && !s.newest {
		return nil
	}
	if s.pos > 0 && !s.headed {
		r.head(s)
	}
	s.headed = true
	return s.records(ctx, r, func(rec Record) error {
		if s.surplus > 0 {
			s.surplus--
			return nil
		}
		return r.deliver(rec)
	})
}

// head lets the format see the file's header, which a read that begins further behind would miss.
func (r *reader) head(s *segment) {
	b := make([]byte, 4<<10)
	for {
		n, err := s.f.ReadAt(b, 0)
		if _, used, _ := r.format.decode(b[:n]); used > 0 || err != nil || len(b) > maxRecord {
			return
		}
		b = make([]byte, 8*len(b))
	}
}

// records calls fn for the segment's records from its position on.
func (s *segment) records(ctx context.Context, r *reader, fn func(Record) error) error {
	if err := s.rewindTruncated(); err != nil {
		return err
	}
	if r.buf == nil {
		r.buf = make([]byte, 32<<10)
	}
	have := 0
	for {
		if have == len(r.buf) {
			r.buf = append(r.buf, make([]byte, len(r.buf))...)
		}
		n, rerr := s.read(r.buf[have:], int64(have))
		have += n
		used, err := r.decode(ctx, r.buf[:have], fn)
		s.pos += int64(used)
		if err != nil || r.over {
			return err
		}
		have = copy(r.buf, r.buf[used:have])
		if rerr != nil {
			return ignoreEOF(rerr)
		}
	}
}

// decode hands the whole records of b to fn and says how many bytes they took.
func (r *reader) decode(ctx context.Context, b []byte, fn func(Record) error) (used int, err error) {
	for used < len(b) {
		record, n, ok := r.format.decode(b[used:])
		if n == 0 {
			break
		}
		used += n
		if !ok {
			continue
		}
		if err := fn(record); err != nil {
			return used, err
		}
		if r.over {
			break
		}
		if err := ctx.Err(); err != nil {
			return used, err
		}
	}
	return used, nil
}

func (r *reader) deliver(rec Record) error {
	if !r.o.Until.IsZero() && rec.Time.After(r.o.Until) {
		r.over = true
		return nil
	}
	if !r.o.Since.IsZero() && rec.Time.Before(r.o.Since) {
		return nil
	}
	if rec.Stream == "stderr" && !r.o.Stderr || rec.Stream == "stdout" && !r.o.Stdout {
		return nil
	}
	return r.fn(rec)
}
