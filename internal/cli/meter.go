package cli

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/docker/go-units"
)

// meter tells, on a terminal, that something that takes longer than a moment goes on: bytes, rate and time left where there are
// bytes to count, and else for how long. Off a terminal it tells nothing.
type meter struct {
	a    *app
	what string
	done chan struct{}
	wait sync.WaitGroup

	mu    sync.Mutex // guards what follows
	n     int64
	total int64 // 0: not known
	began time.Time
	shown bool // its line is there
	ever  bool
}

const (
	// meterPatience is how long something takes before it is told of, and meterPeriod how often it is then.
	meterPatience = 500 * time.Millisecond
	meterPeriod   = 100 * time.Millisecond
)

// measure begins to tell of something, until end is called.
func (a *app) measure(what string, total int64) *meter {
	m := &meter{a: a, what: what, total: total, began: time.Now(), done: make(chan struct{})}
	if a.lively(a.err) {
		m.wait.Go(m.run)
	}
	return m
}

func (m *meter) run() {
	next := time.After(meterPatience)
	for {
		select {
		case <-m.done:
			return
		case <-next:
			m.draw()
			next = time.After(meterPeriod)
		}
	}
}

// expect says how many bytes there will be.
func (m *meter) expect(total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total = total
}

// rename says what goes on now.
func (m *meter) rename(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.what = what
}

// reader counts what is read.
func (m *meter) reader(r io.Reader) io.Reader { return &meterReader{m, r} }

type meterReader struct {
	m *meter
	r io.Reader
}

func (r *meterReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.m.mu.Lock()
	r.m.n += int64(n)
	r.m.mu.Unlock()
	return n, err
}

// body is reader for a body that is closed as well.
func (m *meter) body(r io.ReadCloser) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{m.reader(r), r}
}

func (m *meter) draw() {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, cols, ok := terminalSize(m.a.err)
	if !ok {
		cols = 80
	}
	gone := time.Since(m.began)
	m.shown, m.ever = true, true
	// There is nobody to tell when standard error is gone.
	_, _ = io.WriteString(m.a.err, "\r"+truncate(m.text(gone), cols-1)+clearRight)
}

func (m *meter) text(gone time.Duration) string {
	if m.n == 0 {
		return fmt.Sprintf("%s ... %d s", m.what, int(gone.Seconds()))
	}
	rate := float64(m.n) / gone.Seconds()
	text := m.what + " " + humanSize(m.n)
	if m.total > 0 {
		text = m.what + " " + fullBar(m.n, m.total)
	}
	text += fmt.Sprintf("  %s/s", humanFloat(rate))
	if m.total > m.n && rate > 0 {
		text += "  " + timeLeft(time.Duration(float64(m.total-m.n)/rate*float64(time.Second)))
	}
	return text
}

// clear takes the line away before something else is printed; it comes back.
func (m *meter) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shown {
		m.shown = false
		_, _ = io.WriteString(m.a.err, "\r"+clearRight)
	}
}

// end takes the line away. What was told of, and worked, gets a line of totals.
func (m *meter) end(past string, err error) {
	close(m.done)
	m.wait.Wait()
	m.clear()
	if !m.ever || err != nil || m.n == 0 || past == "" {
		return
	}
	gone := time.Since(m.began)
	m.a.note(fmt.Sprintf("%s %s in %.1f s (%s/s)", past, humanSize(m.n), gone.Seconds(), humanFloat(float64(m.n)/gone.Seconds())))
}

// sizeOf is the size of a regular file, 0 for anything else.
func sizeOf(r io.Reader) int64 {
	if f, ok := r.(*os.File); ok {
		if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
			return st.Size()
		}
	}
	return 0
}

func humanFloat(n float64) string { return units.HumanSizeWithPrecision(n, 3) }

func timeLeft(d time.Duration) string { return d.Round(time.Second).String() + " left" }
