package logfile

import (
	"context"
)

// tailBlock is how much is read at a time from the end of a file.
const tailBlock = 64 << 10

// tail moves the segments' positions so that the last o.Tail records are left to read.
func (r *reader) tail(ctx context.Context, segments []*segment) error {
	want := r.o.Tail
	for i := len(segments) - 1; i >= 0; i-- {
		s := segments[i]
		if want <= 0 {
			if s.packed {
				s.skip = true
			} else if err := s.toEnd(r); err != nil {
				return err
			}
			continue
		}
		n, err := s.seekLast(ctx, r, want)
		if err != nil {
			return err
		}
		want -= n
	}
	return nil
}

// toEnd positions a segment behind its last whole record.
func (s *segment) toEnd(r *reader) error {
	info, err := s.f.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	tail := make([]byte, min(size, tailBlock))
	n, err := s.f.ReadAt(tail, size-int64(len(tail)))
	if err != nil && ignoreEOF(err) != nil {
		return err
	}
	s.pos = size - int64(len(tail)) + int64(max(r.format.sound(tail[:n], true), 0))
	return nil
}

// seekLast positions a segment before its last want records, or at its beginning if it has fewer, and says how many
// records will be read.
func (s *segment) seekLast(ctx context.Context, r *reader, want int) (int, error) {
	if !s.packed {
		if n, ok, err := s.walkBack(r, want); ok || err != nil {
			return n, err
		}
		s.pos = 0
	}
	// Compressed, or damaged near the end: count from the beginning, then leave out what is too much.
	total := 0
	if err := s.records(ctx, r, func(Record) error { total++; return nil }); err != nil {
		return 0, err
	}
	if err := s.rewind(); err != nil {
		return 0, err
	}
	surplus := max(total-want, 0)
	if surplus == 0 {
		return total, nil
	}
	s.surplus = surplus
	return total - surplus, nil
}

func (s *segment) rewind() error {
	if s.packed {
		return s.unpack()
	}
	s.pos = 0
	return nil
}

// walkBack goes from the file's end record by record. It is not ok when it meets damage.
func (s *segment) walkBack(r *reader, want int) (n int, ok bool, err error) {
	if err := s.toEnd(r); err != nil {
		return 0, false, err
	}
	block := make([]byte, 0, tailBlock)
	for s.pos > 0 && n < want {
		size := min(s.pos, int64(cap(block)))
		block = block[:size]
		from := s.pos - size
		if _, err := s.f.ReadAt(block, from); err != nil && ignoreEOF(err) != nil {
			return 0, false, err
		}
		end := len(block)
		for end > 0 && n < want {
			start := r.format.last(block[:end])
			if start < 0 && from == 0 && r.format.sound(block[:end], true) == end {
				start = 0 // the first record has nothing in front of it
			}
			if start < 0 {
				break
			}
			if _, used, isRecord := r.format.decode(block[start:end]); isRecord && used == end-start {
				n++
			}
			end = start
		}
		if end == len(block) { // not even one record: a longer block, or damage
			if from == 0 || size > 2*maxRecord {
				return 0, false, nil
			}
			block = make([]byte, 0, 4*cap(block))
			continue
		}
		s.pos = from + int64(end)
	}
	return n, true, nil
}
