package keeper

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair is a socket to give away, and one that tells when nobody holds that any more.
func pair(t *testing.T) (give, tell int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[1]) })
	return fds[0], fds[1]
}

// isHeld says whether somebody still has the other end within the time.
func isHeld(fd int, patience time.Duration) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
	}
	return n == 0
}

// Sockets of a container's network outlive the client, and the keeper, and go with the process.
func TestSocketsAreHeld(t *testing.T) {
	r := newRig(t)
	give1, tell1 := pair(t)
	give2, tell2 := pair(t)
	netns, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer netns.Close()
	q := r.request("sleep", "1000")
	q.NetNS, q.Sockets = netns, []int{give1}
	r.start(q)
	unix.Close(give1)
	if err := r.client.Hold(r.ctx(), q.ID, []int{give2}); err != nil {
		t.Fatal(err)
	}
	unix.Close(give2)
	check := func(when string) {
		t.Helper()
		fds, err := r.client.Sockets(q.ID)
		if err != nil || len(fds) != 2 {
			t.Fatalf("%s: %v, %v", when, fds, err)
		}
		for i, tell := range []int{tell1, tell2} {
			var a, b unix.Stat_t
			if err := errors.Join(unix.Fstat(fds[i], &a), unix.Fstat(tell, &b)); err != nil || a.Ino == b.Ino {
				t.Errorf("%s: socket %d: %v", when, i, err)
			}
			if _, err := unix.Write(fds[i], []byte{byte(i)}); err != nil {
				t.Errorf("%s: %v", when, err)
			}
			var got [1]byte
			if n, err := unix.Read(tell, got[:]); n != 1 || got[0] != byte(i) {
				t.Errorf("%s: socket %d is not the one: %v, %v", when, i, got, err)
			}
			unix.Close(fds[i])
		}
	}
	check("at first")
	r.client.Close()
	if !isHeld(tell1, 10*time.Millisecond) || !isHeld(tell2, 10*time.Millisecond) {
		t.Error("gone with the client")
	}
	r.open()
	check("a new client")
	r.killKeeper()
	check("a new keeper")
	if err := r.client.Kill(r.ctx(), q.ID, "", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.exit(q.ID, "")
	for i, tell := range []int{tell1, tell2} {
		if isHeld(tell, 5*time.Second) {
			t.Errorf("socket %d is held after the end", i)
		}
	}
	if fds, err := r.client.Sockets(q.ID); err != nil || len(fds) != 0 {
		t.Errorf("after the end: %v, %v", fds, err)
	}
	give3, tell3 := pair(t)
	err = r.client.Hold(r.ctx(), q.ID, []int{give3})
	unix.Close(give3)
	if isHeld(tell3, 5*time.Second) {
		t.Errorf("a socket for a process that has ended is held: %v", err)
	}
	if err := r.client.Hold(r.ctx(), r.id(), nil); err == nil {
		t.Error("sockets for nobody")
	}
}
