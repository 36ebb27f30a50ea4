package task

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
)

// How a keeper is started: the client takes the lock and listens, and the keeper inherits both. So its socket answers
// before it has begun, two never run for one directory, and nobody has to poll.
const (
	LockName   = "lock"
	SocketName = "keeper.sock"
	LogName    = "keeper.log"
	// InheritEnv is set for a keeper that inherits the descriptors below.
	InheritEnv = "KIST_KEEPER_INHERIT"
	// DirEnv is the keeper's directory.
	DirEnv          = "KIST_KEEPER_DIR"
	InheritedLock   = 3
	InheritedSocket = 4
)

// errLocked says that another keeper lives, or is being started.
var errLocked = fmt.Errorf("a keeper holds the lock: %w", errdefs.ErrUnavailable)

// Listen takes a keeper directory's lock and listens on its socket.
func Listen(dir string) (lock *os.File, socket int, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, -1, fmt.Errorf("keeper directory: %w", err)
	}
	lock, err = os.OpenFile(filepath.Join(dir, LockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, -1, fmt.Errorf("keeper lock: %w", err)
	}
	socket = -1
	defer func() {
		if err != nil {
			lock.Close()
			if socket >= 0 {
				unix.Close(socket)
			}
		}
	}()
	if err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, -1, errLocked
		}
		return nil, -1, fmt.Errorf("keeper lock: %w", err)
	}
	socket, err = unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("keeper socket: %w", err)
	}
	path := filepath.Join(dir, SocketName)
	if rerr := os.Remove(path); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
		err = rerr
		return nil, -1, fmt.Errorf("keeper socket: %w", err)
	}
	addr, release, err := socketAddress(path)
	if err != nil {
		return nil, -1, fmt.Errorf("keeper socket: %w", err)
	}
	defer release()
	if err = errors.Join(unix.Bind(socket, addr), unix.Chmod(path, 0o600), unix.Listen(socket, 16)); err != nil {
		return nil, -1, fmt.Errorf("keeper socket: %w", err)
	}
	return lock, socket, nil
}

// launch starts a keeper, as a child in a session of its own.
func launch(c Config) (*os.Process, error) {
	lock, socket, err := Listen(c.Dir)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	sock := os.NewFile(uintptr(socket), "keeper socket")
	defer sock.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("start keeper: %w", err)
	}
	defer null.Close()
	log, err := os.OpenFile(filepath.Join(c.Dir, LogName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start keeper: %w", err)
	}
	defer log.Close()
	if len(c.Command) == 0 {
		return nil, fmt.Errorf("start keeper: no command: %w", errdefs.ErrInvalidArgument)
	}
	p, err := os.StartProcess(c.Command[0], c.Command, &os.ProcAttr{
		Dir:   "/",
		Env:   append(os.Environ(), DirEnv+"="+c.Dir, InheritEnv+"="+strconv.Itoa(InheritedSocket)),
		Files: []*os.File{null, log, log, lock, sock},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("start keeper: %w", err)
	}
	return p, nil
}

// connect reaches the keeper, starting one if there is none.
func (c *Client) connect(ctx context.Context) (*Conn, error) {
	socket := filepath.Join(c.config.Dir, SocketName)
	for {
		conn, err := Dial(socket)
		if err == nil {
			err = c.greet(ctx, conn)
			if err == nil {
				return conn, nil
			}
			conn.Close()
			if !errors.Is(err, io.EOF) && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
				return nil, err
			}
		}
		if p := c.takeChild(); p != nil { // the one that was started just now
			return nil, c.stillborn(p)
		}
		p, err := launch(c.config)
		switch {
		case err == nil:
			c.mu.Lock()
			c.child = p
			c.mu.Unlock()
			continue
		case !errors.Is(err, errLocked):
			return nil, err
		}
		select { // a keeper is about to end, or to begin
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to keeper: %w", ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// takeChild returns the keeper that this process has started, once.
func (c *Client) takeChild() *os.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.child
	c.child = nil
	return p
}

// stillborn says why a keeper has ended at once.
func (c *Client) stillborn(p *os.Process) error {
	_ = p.Kill() // it has ended already, or will not do
	state, err := p.Wait()
	cause := "it ended"
	if err == nil {
		cause = state.String()
	}
	if line := lastLine(filepath.Join(c.config.Dir, LogName)); line != "" {
		cause += ": " + line
	}
	return &fault.Error{
		Code: "keeper-start", What: "cannot start the keeper", Cause: cause,
		Try: "read " + filepath.Join(c.config.Dir, LogName), Class: errdefs.ErrUnavailable,
	}
}

func lastLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	b = bytes.TrimSpace(b)
	return string(b[bytes.LastIndexByte(b, '\n')+1:])
}

// greet opens a connection: versions, what each side holds.
func (c *Client) greet(ctx context.Context, conn *Conn) error {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	conn.SetDeadline(time.Now().Add(greetPatience))
	defer conn.SetDeadline(time.Time{})
	if err := conn.Send(KindHello, 0, Hello{Version: Version, PID: os.Getpid()}); err != nil {
		return err
	}
	m, err := conn.Receive()
	if err != nil {
		return err
	}
	m.CloseFDs()
	var h Hello
	if err := m.Decode(&h); err != nil {
		return err
	}
	if m.Kind != KindHello || h.Version < MinVersion {
		return &fault.Error{
			Code: "keeper-version", What: "cannot talk to the running keeper",
			Cause: fmt.Sprintf("keeper %d speaks version %d of the protocol, this program %d to %d", h.PID, h.Version, MinVersion, Version),
			Try:   "stop its containers with the program that started it", Class: errdefs.ErrFailedPrecondition,
		}
	}
	c.mu.Lock()
	c.speaks = h.Version
	c.mu.Unlock()
	if err := c.handIn(conn, h.PID); err != nil {
		return err
	}
	for {
		m, err := conn.Receive()
		if err != nil {
			return err
		}
		switch m.Kind {
		case KindHeld:
			var h Held
			if err := m.Decode(&h); err != nil {
				m.CloseFDs()
				return err
			}
			c.keep(&h, m.FDs)
		case KindReady:
			m.CloseFDs()
			return nil
		default:
			m.CloseFDs()
		}
	}
}

const greetPatience = 20 * time.Second
