package relay

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T, dial func() (net.Conn, error)) (*Relay, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	return Serve(l, dial), path
}

// echo answers with what it got, once that has ended.
func echo() (net.Conn, error) {
	near, far := net.Pipe()
	go func() {
		buf := make([]byte, 5)
		_, _ = io.ReadFull(far, buf)
		_, _ = far.Write(append([]byte("echo "), buf...))
		_ = far.Close()
	}()
	return near, nil
}

func TestRelay(t *testing.T) {
	r, path := serve(t, echo)
	for range 3 {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte("hello"))
		got, err := io.ReadAll(c)
		if err != nil || string(got) != "echo hello" {
			t.Errorf("%q, %v", got, err)
		}
		_ = c.Close()
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// Close ends what is connected, on both sides.
func TestClose(t *testing.T) {
	far := make(chan net.Conn, 1)
	r, path := serve(t, func() (net.Conn, error) {
		a, b := net.Pipe()
		far <- b
		return a, nil
	})
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	other := <-far
	defer other.Close()
	_ = r.Close()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if _, err := other.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func TestNothingToReach(t *testing.T) {
	r, path := serve(t, func() (net.Conn, error) { return nil, errors.New("no agent") })
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	_ = r.Close()
}
