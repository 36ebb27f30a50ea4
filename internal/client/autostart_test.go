package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
)

// ownEndpoint is kist's own socket in directories of the test.
func ownEndpoint(t *testing.T) Endpoint {
	t.Helper()
	roots := Roots{Data: filepath.Join(t.TempDir(), "data"), Exec: filepath.Join(t.TempDir(), "exec"), Set: true}
	return Endpoint{Scheme: "unix", Addr: filepath.Join(roots.Exec, "kist.sock"), Own: true, Roots: roots}
}

// script makes a program that stands for the daemon.
func script(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "kistd")
	if err := os.WriteFile(p, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestStartOnce lets several commands find no daemon: one starts it, all reach it. The daemon is this test's own server: the
// program only says that it started, and gives its sign when the socket is there.
func TestStartOnce(t *testing.T) {
	e := ownEndpoint(t)
	count := filepath.Join(t.TempDir(), "count")
	s := &Starter{Program: script(t, fmt.Sprintf("echo \"$@\" >> %s\nwhile [ ! -S %s ]; do sleep 0.01; done\necho >&3\n", count, e.Addr))}
	listening := make(chan net.Listener, 1)
	go func() {
		for {
			if _, err := os.Stat(count); err == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		l, err := net.Listen("unix", e.Addr)
		if err != nil {
			t.Error(err)
		}
		listening <- l
		if l != nil {
			http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }))
		}
	}()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			c := New(e, Options{Start: s})
			defer c.Close()
			if err := c.Call(Get("/x", nil)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	(<-listening).Close()
	b, err := os.ReadFile(count)
	want := "--data-root " + e.Roots.Data + " --exec-root " + e.Roots.Exec + "\n"
	if err != nil || string(b) != want {
		t.Errorf("started with %q (%v), want once %q", b, err, want)
	}
}

func TestStartFails(t *testing.T) {
	e := ownEndpoint(t)
	c := New(e, Options{Start: &Starter{Program: script(t, "echo first; echo the reason >&2; exit 3")}})
	err := c.Call(Get("/x", nil))
	f, ok := fault.As(err)
	if !ok || f.Code != "daemon-start-failed" || !strings.Contains(f.Cause, "exit status 3") || !strings.Contains(f.Cause, "the reason") {
		t.Errorf("%v", err)
	}
}

func TestStartNotReady(t *testing.T) {
	e := ownEndpoint(t)
	c := New(e, Options{Start: &Starter{Program: script(t, "exec sleep 1"), Timeout: 50 * time.Millisecond}})
	f, ok := fault.As(c.Call(Get("/x", nil)))
	if !ok || f.Code != "daemon-not-ready" {
		t.Errorf("%v", f)
	}
}

// TestDaemonInheritsNothing looks at what a started daemon has open.
func TestDaemonInheritsNothing(t *testing.T) {
	e := ownEndpoint(t)
	leak, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	// One that the command itself inherited, and that nobody marked.
	const inherited = 200
	if err := unix.Dup3(int(leak.Fd()), inherited, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inherited)
	out := filepath.Join(t.TempDir(), "out")
	s := &Starter{Program: script(t, "{ pwd; ls -m /proc/$$/fd; env; } > "+out+".new; mv "+out+".new "+out+"; exit 1")}
	t.Setenv("DOCKER_HOST", "tcp://elsewhere:1")
	if err := New(e, Options{Start: s}).Call(Get("/", nil)); err == nil {
		t.Fatal("reached a daemon that is none")
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitN(string(b), "\n", 3)
	// The shell itself uses descriptors from 10 on.
	for _, fd := range strings.Split(lines[1], ", ") {
		if n, err := strconv.Atoi(fd); err != nil || n > 3 && n < 10 || n == inherited {
			t.Errorf("descriptor %s is open in the daemon", fd)
		}
	}
	if lines[0] != "/" {
		t.Errorf("started in %s", lines[0])
	}
	if !strings.Contains(lines[2], "KIST_READY_FD=3") || strings.Contains(lines[2], "DOCKER_HOST=") {
		t.Errorf("environment %s", lines[2])
	}
}

func TestUnreachable(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	own := ownEndpoint(t)
	for _, tc := range []struct {
		e         Endpoint
		code, try string
	}{
		{own, "daemon-not-running", "kistd --data-root"},
		{Endpoint{Scheme: "unix", Addr: filepath.Join(dir, "none"), From: "DOCKER_HOST"}, "daemon-wrong-socket", "unset DOCKER_HOST"},
		{Endpoint{Scheme: "unix", Addr: dead, From: "--host"}, "daemon-not-running", "leave --host out"},
	} {
		err := New(tc.e, Options{}).Call(Get("/", nil))
		f, ok := fault.As(err)
		if !ok || f.Code != tc.code || !strings.Contains(f.Try, tc.try) || !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("%s: %v", tc.e, err)
		}
	}
}
