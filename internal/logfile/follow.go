package logfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// follow reads what is there, then what is added, until ctx ends, Done is closed, or Until has passed.
func (r *reader) follow(ctx context.Context) error {
	w := newWatch(r.c.Path)
	defer w.close()
	var until <-chan time.Time
	if !r.o.Until.IsZero() {
		t := time.NewTimer(time.Until(r.o.Until))
		defer t.Stop()
		until = t.C
	}
	if err := r.all(ctx); err != nil {
		return err
	}
	for done := false; !r.over; {
		if err := r.catchUp(ctx); err != nil {
			return err
		}
		if done || r.over {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.o.Done:
			done = true
		case <-until:
			done = true
		case <-w.changed:
		}
	}
	return nil
}

// catchUp reads the current file to its end, and the files that have followed it.
func (r *reader) catchUp(ctx context.Context) error {
	for {
		if r.current == nil {
			// Nothing was there: what comes is news from its beginning.
			return r.firstFile(ctx)
		}
		// Whether it was rotated must be known before it is read: the writer adds nothing to it afterwards.
		turned, err := r.turned()
		if err != nil {
			return err
		}
		if err := r.drain(ctx, r.current); err != nil || r.over {
			return err
		}
		if !turned {
			return nil
		}
		if err := r.successors(ctx); err != nil {
			return err
		}
	}
}

func (r *reader) firstFile(ctx context.Context) error {
	s, err := openSegment(r.c.Path)
	if err != nil || s == nil {
		return err
	}
	if s.packed { // not ours: PATH itself is never compressed
		s.close()
		return nil
	}
	s.newest = true
	r.current = s
	return r.drain(ctx, s)
}

// turned says whether the log's name leads to another file than the current one.
func (r *reader) turned() (bool, error) {
	info, err := os.Stat(r.c.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // in the midst of a rotation, or removed
	}
	if err != nil {
		return false, fmt.Errorf("read log: %w", err)
	}
	return !sameFile(r.current, info), nil
}

// successors reads the files behind the current one; the last becomes the current one.
func (r *reader) successors(ctx context.Context) error {
	segments, err := openSegments(r.c.Path)
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	defer func() {
		for _, s := range segments {
			s.close()
		}
	}()
	for i, s := range segments {
		if s.same(r.current) {
			for _, old := range segments[:i+1] {
				old.close()
			}
			segments = segments[i+1:]
			break
		}
	}
	for len(segments) > 0 {
		s := segments[0]
		if err := r.drain(ctx, s); err != nil {
			return err
		}
		segments = segments[1:]
		r.advance(s) // each: in the midst of a rotation the newest may be missing
	}
	return nil
}
