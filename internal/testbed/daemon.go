package testbed

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Daemon is a running kistd.
type Daemon struct {
	h   *Host
	cmd *exec.Cmd
	log *os.File
}

// StartDaemon starts kistd with further flags and waits until its socket answers.
func (h *Host) StartDaemon(flags ...string) *Daemon {
	h.t.Helper()
	log, err := os.OpenFile(filepath.Join(h.Dir, "kistd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	d := &Daemon{h: h, log: log}
	err = h.Inside(func() error {
		d.cmd = exec.Command(filepath.Join(Bin(), "kistd"), flags...)
		d.cmd.Env = append(os.Environ(), h.Env()...)
		d.cmd.Stdout, d.cmd.Stderr = log, log
		d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		return d.cmd.Start()
	})
	if err != nil {
		h.t.Fatalf("start kistd: %v", err)
	}
	h.t.Cleanup(func() {
		if h.t.Failed() && !h.told {
			h.told = true // All daemons of a host write the same one.
			h.t.Logf("kistd's log:\n%s", d.Log())
		}
		_ = d.cmd.Process.Kill()
		_ = d.cmd.Wait()
		_ = log.Close()
	})
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		if conn, err := net.Dial("unix", h.Socket()); err == nil {
			_ = conn.Close()
			return d
		}
		time.Sleep(5 * time.Millisecond)
	}
	h.t.Fatalf("kistd's socket does not answer:\n%s", d.Log())
	return nil
}

// Log is what the daemon has logged.
func (d *Daemon) Log() string {
	raw, _ := os.ReadFile(d.log.Name())
	return string(raw)
}

// PID is the daemon's process as the machine sees it.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Kill ends the daemon as a crash would, and waits for its end.
func (d *Daemon) Kill() {
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait()
}

// Stop ends the daemon as an administrator would.
func (d *Daemon) Stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	_ = d.cmd.Wait()
}
