package task

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair returns both sides of a connection.
func pair(t *testing.T) (a, b *Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []**Conn{&a, &b} {
		if *c, err = NewConn(fds[i]); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*c).Close() })
	}
	return a, b
}

func TestConn(t *testing.T) {
	a, b := pair(t)
	for _, size := range []int{0, 10, maxInline - 2, maxInline - 1, maxInline, 3 << 20} {
		body := strings.Repeat("x", size)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if err := a.Send(KindCreate, 7, body, int(w.Fd())); err != nil {
				t.Error(err)
			}
			w.Close()
		}()
		m, err := b.Receive()
		if err != nil {
			t.Fatal(err)
		}
		var got string
		if err := m.Decode(&got); err != nil || got != body || m.Kind != KindCreate || m.Number != 7 || len(m.FDs) != 1 {
			t.Fatalf("size %d: %d bytes, kind %d, number %d, %d descriptors, %v", size, len(got), m.Kind, m.Number, len(m.FDs), err)
		}
		if _, err := unix.Write(m.FDs[0], []byte("hi")); err != nil {
			t.Error(err)
		}
		if flags, _ := unix.FcntlInt(uintptr(m.FDs[0]), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
			t.Error("a received descriptor would be inherited")
		}
		m.CloseFDs()
		if b, err := io.ReadAll(r); err != nil || string(b) != "hi" {
			t.Errorf("through the descriptor: %q, %v", b, err)
		}
		r.Close()
	}
	a.Close()
	if _, err := b.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	if err := a.Send(KindList, 1, nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("send on a closed connection: %v", err)
	}
}

// FuzzReceive: packets of a hostile or broken peer are errors, and leak no descriptor.
func FuzzReceive(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 1, 0, 0, 0, '{', '}'}, false)
	f.Add([]byte{1, 1, 0, 0, 1, 0, 0, 0}, true)
	f.Add([]byte{1, 1, 0}, true)
	f.Add([]byte{16, 0, 0, 0, 1, 0, 0, 0}, true)
	f.Fuzz(func(t *testing.T, packet []byte, withFD bool) {
		if len(packet) == 0 || len(packet) > maxInline {
			t.Skip()
		}
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fds[0])
		c, err := NewConn(fds[1])
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var oob []byte
		if withFD {
			oob = unix.UnixRights(fds[0])
		}
		if err := unix.Sendmsg(fds[0], packet, oob, nil, 0); err != nil {
			t.Fatal(err)
		}
		m, err := c.Receive()
		if err != nil {
			return
		}
		defer m.CloseFDs()
		var h Held
		var r CreateMessage
		_, _ = m.Decode(&h), m.Decode(&r)
	})
}

func TestFailure(t *testing.T) {
	if NewFailure(nil).Err() != nil {
		t.Error("nil is an error")
	}
	through := func(err error) error {
		b, merr := json.Marshal(NewFailure(err))
		if merr != nil {
			t.Fatal(merr)
		}
		var f Failure
		if uerr := json.Unmarshal(b, &f); uerr != nil {
			t.Fatal(uerr)
		}
		return f.Err()
	}
	err := through(fmt.Errorf("create: %w", &ExecError{Path: "/x", Step: "execve", Errno: syscall.EACCES}))
	var e *ExecError
	if !errors.As(err, &e) || e.Path != "/x" || e.Step != "execve" || e.Errno != syscall.EACCES {
		t.Errorf("exec error: %v", err)
	}
	err = through(fmt.Errorf("mount: %w", &fault.Error{Code: "c", What: "w", Cause: "why", Try: "this", Class: errdefs.ErrConflict, Err: syscall.EBUSY}))
	f, ok := fault.As(err)
	if !ok || f.Code != "c" || f.What != "w" || f.Cause != "why" || f.Try != "this" || !errdefs.IsConflict(err) || !errors.Is(err, syscall.EBUSY) {
		t.Errorf("fault: %+v", err)
	}
	for _, c := range classes {
		err := through(fmt.Errorf("op: %w", c.err))
		if !errors.Is(err, c.err) || !strings.HasPrefix(err.Error(), "op: ") {
			t.Errorf("%s became %v", c.name, err)
		}
	}
	if err := through(fmt.Errorf("x: %w", os.NewSyscallError("open", syscall.ENOSPC))); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("errno: %v", err)
	}
}

func TestKeeperThatCannotStart(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := Open(ctx, Config{Dir: dir, Command: []string{"/bin/sh", "-c", "echo no such luck >&2; exit 3"}})
	f, ok := fault.As(err)
	if !ok || f.Code != "keeper-start" || !strings.Contains(f.Cause, "exit status 3") || !strings.Contains(f.Cause, "no such luck") {
		t.Errorf("error %v", err)
	}
	if _, err = Open(ctx, Config{Dir: dir, Command: []string{"/no/such/keeper"}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	if _, err = Open(ctx, Config{Dir: dir}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("error %v", err)
	}
}

// serveOnce is a keeper of another version: it greets one client.
func serveOnce(t *testing.T, dir string, version int) {
	t.Helper()
	lock, fd, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { <-done; lock.Close(); unix.Close(fd) })
	go func() {
		defer close(done)
		conn, _, err := unix.Accept(fd)
		if err != nil {
			t.Error(err)
			return
		}
		c, err := NewConn(conn)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		for {
			m, err := c.Receive()
			if err != nil {
				return
			}
			switch m.Kind {
			case KindHello:
				_ = c.Send(KindHello, 0, Hello{Version: version, PID: 1})
			case KindReady:
				_ = c.Send(KindReady, 0, nil)
			}
		}
	}()
}

func TestVersions(t *testing.T) {
	for version, fine := range map[int]bool{0: false, 1: true, 99: true} {
		dir := filepath.Join(t.TempDir(), strings.Repeat("a-long-name-", 10)) // longer than a socket's address
		serveOnce(t, dir, version)
		c, err := Open(context.Background(), Config{Dir: dir})
		if fine {
			if err != nil {
				t.Errorf("version %d: %v", version, err)
				continue
			}
			c.Close()
			continue
		}
		if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), fmt.Sprint(version)) {
			t.Errorf("version %d: %v", version, err)
		}
	}
}

func TestListenTwice(t *testing.T) {
	dir := t.TempDir()
	lock, fd, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	defer unix.Close(fd)
	if _, _, err := Listen(dir); !errors.Is(err, errLocked) {
		t.Errorf("a second keeper: %v", err)
	}
}

func TestQueue(t *testing.T) {
	q := newEventQueue()
	out, quit, done := make(chan Event), make(chan struct{}), make(chan struct{})
	for i := range 1000 { // before anybody reads
		q.push(Event{ID: fmt.Sprint(i)})
	}
	go func() { q.pump(out, quit); close(done) }()
	for i := range 1000 {
		if e := <-out; e.ID != fmt.Sprint(i) {
			t.Fatalf("event %d is %q", i, e.ID)
		}
	}
	q.push(Event{ID: "late"})
	if e := <-out; e.ID != "late" {
		t.Errorf("event %q", e.ID)
	}
	close(quit)
	<-done
}

func TestMessagesHaveRoomForUnknownFields(t *testing.T) {
	m := Message{Body: []byte(`{"ID":"x","PID":3,"State":"running","Slots":"AQ==","Later":{"a":1}}`)}
	var h Held
	if err := m.Decode(&h); err != nil || h.ID != "x" || !bytes.Equal([]byte{byte(h.Slots[0])}, []byte{1}) {
		t.Errorf("%+v, %v", h, err)
	}
}
