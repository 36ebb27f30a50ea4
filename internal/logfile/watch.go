package logfile

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// watch tells that something changed in a log's directory.
type watch struct {
	changed chan struct{} // holds one notice at most
	file    *os.File
	stop    chan struct{}
	wg      sync.WaitGroup
}

// pollEvery is used where the kernel gives no (further) inotify instance.
const pollEvery = 100 * time.Millisecond

func newWatch(path string) *watch {
	w := &watch{changed: make(chan struct{}, 1), stop: make(chan struct{})}
	dir, _ := splitPath(path)
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err == nil {
		const mask = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO
		if _, err = unix.InotifyAddWatch(fd, dir+"/.", mask); err != nil {
			unix.Close(fd)
		}
	}
	w.wg.Add(1)
	if err != nil {
		go w.poll()
		return w
	}
	w.file = os.NewFile(uintptr(fd), "inotify")
	go w.listen()
	return w
}

func (w *watch) notify() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *watch) listen() {
	defer w.wg.Done()
	var buf [4096]byte
	for {
		if _, err := w.file.Read(buf[:]); err != nil {
			return
		}
		w.notify()
	}
}

func (w *watch) poll() {
	defer w.wg.Done()
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-t.C:
			w.notify()
		}
	}
}

func (w *watch) close() {
	close(w.stop)
	if w.file != nil {
		w.file.Close()
	}
	w.wg.Wait()
}
