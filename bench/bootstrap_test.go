package bench

import (
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
)

// TestBootstrap makes a minimal Debian of the same packages from the same mirror, which is served on loopback.
func TestBootstrap(t *testing.T) {
	want(t, "bootstrap")
	dir, suite, err := testbed.Mirror(t.Context(), "ca-certificates")
	if err != nil {
		t.Skipf("skip: no mirror: %v", err)
	}
	k := kist(t)
	var l net.Listener
	if err := k.host.Inside(func() (err error) {
		l, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() { _ = s.Serve(l); close(done) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	mirror := "http://" + l.Addr().String()
	var highest float64
	rows := []*row{{name: "kist image bootstrap", run: func() error {
		_ = k.do("rmi", "-f", "base") // there is none the first time
		resetPeak(k.pid)
		err := k.do("image", "bootstrap", "-q", "-t", "base", "--mirror", mirror, "debian:"+suite)
		highest = max(highest, peak(k.pid))
		return err
	}}}
	for _, name := range []string{"debootstrap", "mmdebstrap"} {
		rows = append(rows, other(k, name, suite, mirror))
	}
	race(3, rows)
	report(t, "a minimal Debian of its packages, mirror on loopback", rows)
	t.Logf("kist's daemon: peak RSS %.0f MB", highest)
}

// other is a program that makes a root directory.
func other(k *program, name, suite, mirror string) *row {
	r := &row{name: name}
	if _, err := exec.LookPath(name); err != nil {
		r.err = errors.New("not installed")
		return r
	}
	root := filepath.Join(k.host.Dir, name)
	r.run = func() error {
		if err := os.RemoveAll(root); err != nil {
			return err
		}
		return k.host.Command(name, "--variant=minbase", suite, root, mirror).Run()
	}
	return r
}
