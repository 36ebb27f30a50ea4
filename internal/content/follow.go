package content

import (
	"fmt"
	"io"
	"os"
	"sync"
)

// Follow reads the blob from its start while it is written. The end comes when Commit has verified it; a blob that is
// abandoned or wrong ends in an error instead.
func (w *Writer) Follow() (io.ReadCloser, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return nil, fmt.Errorf("follow blob: %w", os.ErrClosed)
	}
	f, err := os.Open(w.file.Name())
	if err != nil {
		return nil, fmt.Errorf("follow blob: %w", err)
	}
	return &follower{w: w, file: f, lap: w.lap}, nil
}

type follower struct {
	w    *Writer
	file *os.File
	at   int64
	lap  int
	once sync.Once
}

func (f *follower) Read(p []byte) (int, error) {
	ready, err := f.wait()
	if err != nil {
		return 0, err
	}
	if int64(len(p)) > ready {
		p = p[:ready]
	}
	n, err := f.file.ReadAt(p, f.at)
	f.at += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

// wait returns how many bytes can be read, at least one.
func (f *follower) wait() (int64, error) {
	w := f.w
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.n == f.at && w.lap == f.lap && !w.done {
		w.more.Wait()
	}
	switch {
	case w.lap != f.lap:
		return 0, errUnfinished
	case w.err != nil:
		return 0, w.err
	case w.n > f.at:
		return w.n - f.at, nil
	}
	return 0, io.EOF
}

func (f *follower) Close() error {
	var err error
	f.once.Do(func() { err = f.file.Close() })
	return err
}
