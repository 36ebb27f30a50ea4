package access

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Options for Open.
type Options struct {
	// Path of the file. Older ones have .1, .2 and so on behind their names.
	Path string
	// MaxSize is how many bytes a file may have, MaxFiles how many files there may be. Zero is 8 MiB and 4.
	MaxSize  int64
	MaxFiles int
}

// Call is one line.
type Call struct {
	Time time.Time `json:"time"`
	// Socket is the path or the address that was called.
	Socket string `json:"socket"`
	// UID, PID and Program are those of a local caller; Remote and Certificate say who another one is.
	UID         *uint32 `json:"uid,omitempty"`
	PID         int32   `json:"pid,omitempty"`
	Program     string  `json:"program,omitempty"`
	Remote      string  `json:"remote,omitempty"`
	Certificate string  `json:"certificate,omitempty"`
	Method      string  `json:"method"`
	Path        string  `json:"path"`
	// Names are what the request's parameters name.
	Names  map[string]string `json:"names,omitempty"`
	Status int               `json:"status"`
	// Seconds is how long it took.
	Seconds float64 `json:"seconds"`
}

// Log writes calls to a file. It must be closed.
type Log struct {
	o     Options
	lines chan line
	done  chan struct{}

	mu     sync.RWMutex // guards closed
	closed bool

	// The writer's own.
	file    *os.File
	size    int64
	failing bool
}

type line struct {
	call Call
	peer *Peer
}

// waiting is how many calls may wait for the disk before callers do.
const waiting = 4096

// Open begins a log, or goes on with the one that is there.
func Open(o Options) (*Log, error) {
	if o.MaxSize == 0 {
		o.MaxSize = 8 << 20
	}
	if o.MaxFiles == 0 {
		o.MaxFiles = 4
	}
	l := &Log{o: o, lines: make(chan line, waiting), done: make(chan struct{})}
	if err := l.open(); err != nil {
		return nil, err
	}
	go l.write()
	return l, nil
}

// Close writes what waits, and ends.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	close(l.lines)
	l.mu.Unlock()
	<-l.done
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

// Note writes a call down, behind the caller's back.
func (l *Log) Note(p *Peer, c Call) {
	if p != nil {
		p.identify()
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if !l.closed {
		l.lines <- line{c, p}
	}
}

func (l *Log) open() error {
	f, err := os.OpenFile(l.o.Path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("open the log of calls: %w", err)
	}
	fi, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("open the log of calls: %w", err)
	}
	l.file, l.size = f, fi.Size()
	return nil
}

func (l *Log) write() {
	defer close(l.done)
	for next := range l.lines {
		err := l.put(next)
		if err != nil && !l.failing { // Said once, not for each call.
			slog.Error("the log of calls cannot be written", "error", err)
		}
		l.failing = err != nil
	}
}

func (l *Log) put(next line) error {
	if p := next.peer; p != nil {
		<-p.known
		next.call.Remote = p.remote
		if p.cred != nil {
			next.call.UID, next.call.PID, next.call.Program = &p.cred.Uid, p.cred.Pid, p.program
		}
	}
	raw, err := json.Marshal(next.call)
	if err != nil {
		return err
	}
	if l.size > 0 && l.size+int64(len(raw)) > l.o.MaxSize {
		if err := l.turn(); err != nil {
			return err
		}
	}
	if l.file == nil {
		if err := l.open(); err != nil {
			return err
		}
	}
	n, err := l.file.Write(append(raw, '\n'))
	l.size += int64(n)
	return err
}

// turn begins a new file and gives the older ones their next names.
func (l *Log) turn() error {
	name := func(i int) string {
		if i == 0 {
			return l.o.Path
		}
		return fmt.Sprintf("%s.%d", l.o.Path, i)
	}
	err := l.file.Close()
	l.file = nil
	if err != nil {
		return err
	}
	for i := l.o.MaxFiles - 1; i > 0; i-- {
		if err := os.Rename(name(i-1), name(i)); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	if l.o.MaxFiles == 1 {
		if err := os.Remove(l.o.Path); err != nil {
			return err
		}
	}
	return l.open()
}
