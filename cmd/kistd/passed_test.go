package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// passedRole makes the test binary a daemon that systemd has passed sockets to.
const passedRole = "KIST_TEST_PASSED"

func TestMain(m *testing.M) {
	if os.Getenv(passedRole) == "" {
		os.Exit(m.Run())
	}
	// What systemd sets for the process that it starts, which the process that starts this one cannot know.
	os.Setenv("LISTEN_PID", os.Getenv(passedRole))
	c := &config{Hosts: []string{"fd://"}}
	ls, err := listen(c)
	if err != nil {
		println(err.Error())
		os.Exit(1)
	}
	for _, l := range ls {
		println(l.Addr().Network(), l.Addr().String())
	}
	whole, err := listenFront(c)
	if err != nil || whole == nil {
		os.Exit(3)
	}
	println("front", whole.Addr().String())
}

func TestSocketsFromSystemd(t *testing.T) {
	dir := t.TempDir()
	run := func(networks ...string) (string, error) {
		t.Helper()
		// The shell's process becomes the daemon's, so that it knows the number.
		cmd := exec.Command("sh", "-c", passedRole+`=$$ exec "$0"`, os.Args[0])
		cmd.Env = append(os.Environ(), "LISTEN_FDS="+string(rune('0'+len(networks))))
		for _, n := range networks {
			l, err := net.Listen(n, filepath.Join(dir, n))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			f, err := l.(*net.UnixListener).File()
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := run("unixpacket", "unix")
	if want := "unix " + dir + "/unix\nfront " + dir + "/unixpacket\n"; err != nil || out != want {
		t.Errorf("%v, %q, want %q", err, out, want)
	}
	if out, err := run(); err == nil || !strings.Contains(out, "passed no socket") {
		t.Errorf("%v, %q", err, out)
	}
	if out, err := run("unixpacket"); err == nil || !strings.Contains(out, "passed no socket") {
		t.Errorf("%v, %q", err, out)
	}
}
