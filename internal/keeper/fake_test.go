package keeper

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"

	"github.com/creack/pty"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/runtime"
)

// fakeRunner runs processes without any isolation: what it cannot show is package runtime's business.
type fakeRunner struct {
	mu    sync.Mutex
	gates map[int]*os.File // closing one lets the process end; writing lets it go
	paths map[int]string
}

func (f *fakeRunner) Create(_ context.Context, b runtime.Bundle, io runtime.Stdio) (*runtime.Process, error) {
	if b.Spec.Hostname == "refuse" {
		return nil, errors.New("refused")
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	args := append([]string{"sh", "-c", `read x <&3 || exit 99; exec 3<&-; exec "$0" "$@"`}, b.Spec.Process.Args...)
	p, err := f.spawn(args, b.Spec.Process, io, r)
	if err != nil {
		w.Close()
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gates == nil {
		f.gates, f.paths = map[int]*os.File{}, map[int]string{}
	}
	f.gates[p.PID], f.paths[p.PID] = w, b.Spec.Process.Args[0]
	p.Warnings = []string{"fake"}
	return p, nil
}

func (f *fakeRunner) spawn(args []string, spec *specs.Process, io runtime.Stdio, extra ...*os.File) (*runtime.Process, error) {
	pidfd := -1
	attr := &os.ProcAttr{
		Env:   append(spec.Env, "PATH="+os.Getenv("PATH")),
		Files: append([]*os.File{io.Stdin, io.Stdout, io.Stderr}, extra...),
		Sys:   &syscall.SysProcAttr{PidFD: &pidfd, Setsid: true},
	}
	var master *os.File
	if spec.Terminal {
		var slave *os.File
		var err error
		if master, slave, err = pty.Open(); err != nil {
			return nil, err
		}
		defer slave.Close()
		attr.Files[0], attr.Files[1], attr.Files[2] = slave, slave, slave
		attr.Sys.Setctty = true
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return nil, &runtime.StartError{Step: "execve", Path: args[0], Err: unix.ENOENT}
	}
	p, err := os.StartProcess(path, args, attr)
	if err != nil {
		return nil, err
	}
	return &runtime.Process{PID: p.Pid, PIDFD: os.NewFile(uintptr(pidfd), "pidfd"), Console: master}, nil
}

func (f *fakeRunner) Start(_ context.Context, p *runtime.Process) error {
	f.mu.Lock()
	gate, path := f.gates[p.PID], f.paths[p.PID]
	delete(f.gates, p.PID)
	f.mu.Unlock()
	if gate == nil {
		return errors.New("no gate for " + strconv.Itoa(p.PID))
	}
	defer gate.Close()
	if _, err := exec.LookPath(path); err != nil {
		return &runtime.StartError{Step: "execve", Path: path, Err: unix.ENOENT}
	}
	_, err := gate.WriteString("go\n")
	return err
}

func (f *fakeRunner) Exec(_ context.Context, _ runtime.ExecTarget, p *specs.Process, io runtime.Stdio) (*runtime.Process, error) {
	return f.spawn(p.Args, p, io)
}

func (f *fakeRunner) Delete(context.Context, *runtime.Process) error { return nil }
