package image

import (
	"io"
	"sync"
	"time"
)

// Progress is one line of progress, in the shape of docker's JSON stream.
type Progress struct {
	ID      string // layer, tag or empty
	Status  string // "Downloading", "Pull complete", ...
	Current int64
	Total   int64
	// Aux is sent as the stream's "aux" (push's digest, load's image id).
	Aux any
}

// Reporter takes progress; it may be called from several goroutines.
type Reporter func(Progress)

// status reports a line without numbers.
func (r Reporter) status(id, status string) {
	if r != nil {
		r(Progress{ID: id, Status: status})
	}
}

// reportEvery is how often one layer's progress is told.
const reportEvery = 100 * time.Millisecond

// meter reports how far one layer has come, not too often.
type meter struct {
	report Reporter
	id     string
	status string
	total  int64

	mu   sync.Mutex // guards what follows
	last time.Time
	mute bool
}

func (r Reporter) meter(id, status string, total int64) *meter {
	return &meter{report: r, id: id, status: status, total: total}
}

// at reports the number of bytes done so far.
func (m *meter) at(n int64) {
	if m.report == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.mute || now.Sub(m.last) < reportEvery {
		return
	}
	m.last = now
	m.report(Progress{ID: m.id, Status: m.status, Current: n, Total: m.total})
}

// hush keeps the meter from reporting, or lets it.
func (m *meter) hush(mute bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mute = mute
}

// reader reports what is read through it.
func (m *meter) reader(r io.Reader) io.Reader { return &metered{m: m, pass: r.Read} }

// writer reports what is written through it, behind what was there before.
func (m *meter) writer(w io.Writer, before int64) io.Writer {
	return &metered{m: m, pass: w.Write, n: before}
}

// metered passes bytes on in one direction.
type metered struct {
	m    *meter
	pass func([]byte) (int, error)
	n    int64
}

func (t *metered) through(p []byte) (int, error) {
	n, err := t.pass(p)
	t.n += int64(n)
	t.m.at(t.n)
	return n, err
}

// Read is of a reader's.
func (t *metered) Read(p []byte) (int, error) { return t.through(p) }

// Write is of a writer's.
func (t *metered) Write(p []byte) (int, error) { return t.through(p) }
