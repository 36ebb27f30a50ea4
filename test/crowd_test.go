package test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
)

// crowd is how many containers TestCrowd runs on one network: more than a Linux bridge has ports (1,023).
const crowd = 1200

// TestCrowd runs 1,200 containers on one network. The first, the last, and those on both sides of the first bridge's last
// port know each other by name and reach each other; all go again and leave nothing.
func TestCrowd(t *testing.T) {
	if testing.Short() {
		t.Skip("skip: -short")
	}
	h := testbed.NewHost(t)
	needBin(t)
	h.StartDaemon()
	h.Run("kist", "load", "-q", "-i", testbed.Busybox.MustArchive(t))
	h.Run("kist", "network", "create", "--subnet", "10.77.0.0/20", "crowd")

	begin := time.Now()
	each(8, crowd, func(n int) {
		args := []string{"run", "-d", "--name", "c" + strconv.Itoa(n), "--network", "crowd", "kist.test/busybox", "httpd", "-f", "-p", "7", "-h", "/etc"}
		_, err := h.Try("kist", args...)
		if err != nil {
			t.Errorf("container %d: %v", n, err)
		}
	})
	t.Logf("%d containers run after %.1f s", crowd, time.Since(begin).Seconds())
	if t.Failed() {
		return
	}
	if n := len(strings.Fields(h.Run("kist", "ps", "-q"))); n != crowd {
		t.Fatalf("%d containers run, want %d", n, crowd)
	}
	if n := strings.Count(h.Run("kist", "network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{end}}", "crowd"), "c"); n != crowd {
		t.Errorf("the network has %d containers, want %d", n, crowd)
	}
	some := []int{0, 1, 600, 1000, 1015, 1022, 1023, 1024, 1100, crowd - 1}
	for i, from := range some {
		to := some[(i+len(some)/2)%len(some)]
		got, err := h.Try("kist", "exec", "c"+strconv.Itoa(from), "wget", "-qO-", "http://c"+strconv.Itoa(to)+":7/hostname")
		want := h.Run("kist", "inspect", "-f", "{{.Config.Hostname}}", "c"+strconv.Itoa(to))
		if err != nil || got != want {
			t.Errorf("container %d asks %d: %q, %v; want %q", from, to, got, err, want)
		}
	}

	begin = time.Now()
	each(2, 12, func(part int) {
		args := []string{"rm", "-f"}
		for n := part * crowd / 12; n < (part+1)*crowd/12; n++ {
			args = append(args, fmt.Sprintf("c%d", n))
		}
		if _, err := h.Try("kist", args...); err != nil {
			t.Error(err)
		}
	})
	t.Logf("removed after %.1f s", time.Since(begin).Seconds())
	h.Run("kist", "network", "rm", "crowd")
	await(t, "nothing is left", func() bool { return remains(h) == "" })
}

// each calls fn with 0 to n-1, some at a time.
func each(atOnce, n int, fn func(int)) {
	work := make(chan int)
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			for i := range work {
				fn(i)
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	all.Wait()
}
