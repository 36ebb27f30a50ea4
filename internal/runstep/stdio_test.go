package runstep

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"

	"github.com/moby/buildkit/util/entitlements"

	"github.com/kistdev/kist/internal/testbed"
)

// fileOf is a connection's descriptor, which is all that is left of it.
func fileOf(t *testing.T, c net.Conn) *os.File {
	t.Helper()
	u, ok := c.(*net.UnixConn)
	if !ok {
		t.Fatalf("%T", c)
	}
	f, err := u.File()
	if err = errors.Join(err, u.Close()); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestStdio: a socket is the command's input and output, and what it complains of goes elsewhere.
func TestStdio(t *testing.T) {
	w := newWorld(t)
	near, far := testbed.SocketPair(t)
	q := w.request("echo complaint >&2; read line; echo \"it said $line\"; exit 3")
	q.Stdio = fileOf(t, far)
	heard := make(chan string, 1)
	go func() {
		_, err := io.WriteString(near, "hello\n")
		raw, readErr := io.ReadAll(near)
		if err = errors.Join(err, readErr); err != nil {
			t.Error(err)
		}
		heard <- string(raw)
	}()
	out, _, err := w.run(q)
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 3 || exit.Tail != "complaint\n" || out != "complaint\n" {
		t.Errorf("%q, %v", out, err)
	}
	if got := <-heard; got != "it said hello\n" {
		t.Errorf("heard %q", got)
	}
	_, far = testbed.SocketPair(t)
	q = w.request("true")
	q.ID, q.Stdio = "../x", fileOf(t, far)
	if _, _, err := w.run(q); err == nil {
		t.Error("ran")
	}
	if err := q.Stdio.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the socket of a step that is refused stays open: %v", err)
	}
	w.leftovers()
}

func TestDevicesOf(t *testing.T) {
	here := []string{"v.com/gpu=0", "v.com/gpu=1", "w.com/x=y"}
	for name, want := range map[string]int{
		"v.com/gpu=1": 1, "v.com/gpu": 1, "v.com/gpu=*": 2, "v.com/gpu=2": 0, "w.com/x": 1, "x": 0, "": 0, "v.com": 0, "*": 0,
	} {
		if got := devicesOf(name, here); len(got) != want {
			t.Errorf("%q: %v, want %d", name, got, want)
		}
	}
	for _, tc := range []struct {
		grant string
		want  int
	}{{"", 3}, {"v.com/gpu=*", 2}, {"w.com/x=y,alias=mine", 0}, {"nothing", 0}} {
		c, err := entitlements.ParseDevicesConfig(tc.grant)
		if err != nil {
			t.Fatal(err)
		}
		s := &step{Request: &Request{Devices: c}}
		if got := s.grantedDevices(here); len(got) != tc.want {
			t.Errorf("%q: %v, want %d", tc.grant, got, tc.want)
		}
	}
	if got := (&step{Request: &Request{}}).grantedDevices(here); got != nil {
		t.Errorf("granted %v", got)
	}
}
