package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
)

// Starter starts kist's own daemon in the background.
//
//	command                          daemon
//	   | flock EXEC/start.lock
//	   | dial again: somebody else may have started it
//	   | fork, pipe as KIST_READY_FD --->|
//	   |                                 | opens its socket
//	   |<------- one byte, or closes ----|
//	   | unlock, dial
type Starter struct {
	// Program is the daemon's file; when empty it is looked for beside this program and in PATH.
	Program string
	// Timeout bounds the wait for its socket; 30 seconds when zero.
	Timeout time.Duration
}

const startTimeout = 30 * time.Second

// Log is the file that a started daemon writes to.
func (r Roots) Log() string { return filepath.Join(r.Data, "kistd.log") }

// StartFailure is what a daemon that cannot start says in place of the byte that it is ready: one object of JSON.
type StartFailure struct{ Code, What, Cause, Try string }

func (s *StartFailure) fault() error {
	return &fault.Error{Code: s.Code, What: s.What, Cause: s.Cause, Try: s.Try, Class: errdefs.ErrUnavailable}
}

// readySign is the byte that a daemon writes when it is ready.
const readySign = 1

// hear reads the sign, or what the daemon says in its place.
func hear(ready *os.File) ([]byte, error) {
	const most = 64 << 10
	said := make([]byte, 0, 4096)
	for len(said) < most {
		n, err := ready.Read(said[len(said):cap(said)])
		said = said[:len(said)+n]
		if err != nil || len(said) > 0 && said[0] == readySign {
			return said, err
		}
		said = slices.Grow(said, 4096)
	}
	return said, nil
}

// flags are the daemon's arguments for roots that are not its own choice.
func (r Roots) flags() []string {
	if !r.Set {
		return nil
	}
	return []string{"--data-root", r.Data, "--exec-root", r.Exec}
}

// run returns when the endpoint's daemon answers, whoever started it.
func (s *Starter) run(e Endpoint) error {
	if err := os.MkdirAll(e.Roots.Exec, 0o711); err != nil {
		return startFault("make its directory", err)
	}
	lock, err := os.OpenFile(filepath.Join(e.Roots.Exec, "start.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return startFault("lock its directory", err)
	}
	defer lock.Close()
	if err := flock(lock); err != nil {
		return startFault("lock its directory", err)
	}
	if t, err := e.dial(); err == nil {
		return t.Close()
	}
	program, err := s.Find()
	if err != nil {
		return err
	}
	return s.launch(program, e)
}

func flock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err != syscall.EINTR {
			return err
		}
	}
}

// Find looks for the daemon's program.
func (s *Starter) Find() (string, error) {
	if s.Program != "" {
		return s.Program, nil
	}
	var dirs []string
	if self, err := os.Executable(); err == nil {
		dirs = append(dirs, filepath.Dir(self))
	}
	dirs = append(dirs, filepath.SplitList(os.Getenv("PATH"))...)
	for _, d := range dirs {
		if !filepath.IsAbs(d) {
			continue
		}
		p := filepath.Join(d, "kistd")
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", &fault.Error{
		Code: "daemon-not-installed", What: "cannot start the daemon",
		Cause: "no kistd is beside the kist program or in PATH", Try: "install kistd next to kist, or set KIST_HOST to a running daemon",
		Class: errdefs.ErrUnavailable,
	}
}

// launch starts the program and waits for its sign.
func (s *Starter) launch(program string, e Endpoint) error {
	if err := os.MkdirAll(e.Roots.Data, 0o711); err != nil {
		return startFault("make its data directory", err)
	}
	log, err := os.OpenFile(e.Roots.Log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return startFault("open its log", err)
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return startFault("open "+os.DevNull, err)
	}
	defer null.Close()
	ready, sign, err := os.Pipe()
	if err != nil {
		return startFault("make a pipe", err)
	}
	defer ready.Close()
	defer sign.Close()
	// What this command inherited is not the daemon's: a lock or the end of a pipe would be held for as long as it runs.
	// Kernels before 5.11 cannot do this, and then it is left.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	p, err := os.StartProcess(program, append([]string{program}, e.Roots.flags()...), &os.ProcAttr{
		Dir:   "/",
		Env:   daemonEnv(os.Environ()),
		Files: []*os.File{null, log, log, sign},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return startFault("run "+program, err)
	}
	sign.Close()
	return s.await(p, ready, e)
}

// daemonEnv is the environment without what belongs to this command alone.
func daemonEnv(env []string) []string {
	out := make([]string, 0, len(env)+1)
	for _, kv := range env {
		k, _, _ := strings.Cut(kv, "=")
		switch k {
		case "KIST_READY_FD", "KIST_HOST", "DOCKER_HOST", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID":
		default:
			out = append(out, kv)
		}
	}
	return append(out, "KIST_READY_FD=3")
}

// await waits for the daemon's byte. The daemon may also close the pipe: then either its socket answers or it is dead.
func (s *Starter) await(p *os.Process, ready *os.File, e Endpoint) error {
	limit := s.Timeout
	if limit == 0 {
		limit = startTimeout
	}
	// A pipe of os.Pipe always has deadlines.
	if err := ready.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return startFault("wait for its socket", err)
	}
	said, err := hear(ready)
	if len(said) == 1 && said[0] == readySign {
		return p.Release()
	}
	var failure StartFailure
	if json.Unmarshal(said, &failure) == nil && failure.Code != "" {
		_, err := p.Wait() // It has told why it ends.
		return errors.Join(failure.fault(), err)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &fault.Error{
			Code: "daemon-not-ready", What: "the daemon was started but does not answer",
			Cause: fmt.Sprintf("no sign within %v; its log ends with: %s", limit, lastLines(e.Roots.Log())), Try: "less " + e.Roots.Log(),
			Class: errdefs.ErrUnavailable,
		}
	}
	if t, err := e.dial(); err == nil {
		t.Close()
		return p.Release()
	}
	return s.died(p, e)
}

// died says why a daemon ended before its socket was there.
func (s *Starter) died(p *os.Process, e Endpoint) error {
	st, err := p.Wait()
	if err != nil {
		return startFault("wait for it", err)
	}
	cause := st.String()
	if said := lastLines(e.Roots.Log()); said != "" {
		cause += "; its log ends with: " + said
	}
	f := &fault.Error{Code: "daemon-start-failed", What: "cannot start the daemon", Cause: cause, Try: "less " + e.Roots.Log(), Class: errdefs.ErrUnavailable}
	if os.Geteuid() != 0 {
		f.Try = "sudo kist ..., or " + f.Try
	}
	return f
}

func startFault(what string, err error) error {
	f := &fault.Error{Code: "daemon-start-failed", What: "cannot start the daemon: cannot " + what, Class: errdefs.ErrUnavailable, Err: err}
	switch {
	case errors.Is(err, os.ErrPermission) && os.Geteuid() != 0:
		f.Code, f.Try = "daemon-needs-root", "sudo kist ..."
		f.What += ": this user may not"
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EEXIST):
		f.Code, f.Try = "daemon-data-root", "KIST_DATA_ROOT and KIST_EXEC_ROOT with other directories"
		f.What += ": a file is in the way of its directory"
	case errors.Is(err, syscall.EROFS):
		f.Code, f.Try = "daemon-data-root", "KIST_DATA_ROOT with a directory on another file system"
		f.What += ": the file system is read-only"
	case errors.Is(err, syscall.ENOSPC):
		f.Code, f.Try = "disk-full", "df -h, or KIST_DATA_ROOT with a directory on another disk"
		f.What += ": no space left on device"
	default:
		f.Try = "kist doctor"
	}
	return f
}

// lastLines returns the end of a log on one line.
func lastLines(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	const most = 600
	if st, err := f.Stat(); err == nil && st.Size() > most {
		if _, err := f.Seek(-most, io.SeekEnd); err != nil {
			return ""
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) > 3 {
		lines = lines[len(lines)-3:]
	}
	return strings.Join(lines, " | ")
}
