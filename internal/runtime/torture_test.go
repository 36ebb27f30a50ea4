package runtime

import (
	"os"
	goruntime "runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// The children share this process's memory while its collector moves stacks and frees spans.
func TestGarbageCollectionDuringStarts(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		defer debug.SetGCPercent(debug.SetGCPercent(5))
		stop := make(chan struct{})
		var torture sync.WaitGroup
		torture.Add(1)
		go func() {
			defer torture.Done()
			var keep [64][]byte
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				keep[i%len(keep)] = make([]byte, 1<<(10+i%8))
				grow(i % 500)
				if i%200 == 0 {
					goruntime.GC()
				}
				goruntime.Gosched()
			}
		}()
		var workers sync.WaitGroup
		for range 4 {
			workers.Add(1)
			go func() {
				defer workers.Done()
				b := bundle(t, "/bin/sh", "-c", "exit 17")
				for range 8 {
					o, err := tryRun(t, r, b)
					if err != nil || o.code != 17 {
						t.Errorf("exit %d, %v", o.code, err)
						return
					}
				}
			}()
		}
		workers.Wait()
		close(stop)
		torture.Wait()
	})
}

// grow makes the stack of its goroutine grow, so that it is copied.
func grow(n int) byte {
	var b [256]byte
	if n > 0 {
		b[n%256] = grow(n - 1)
	}
	return b[(n+1)%256]
}

func TestNothingIsLeft(t *testing.T) {
	executors(t, func(t *testing.T, r *Runtime) {
		defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
		round := func() {
			b := bundle(t, "/bin/true")
			p, err := r.Create(t.Context(), b, Stdio{})
			must(t, err)
			must(t, r.Start(t.Context(), p))
			wait(t, p)
			must(t, r.Delete(t.Context(), p))
			p.PIDFD.Close()
			b = bundle(t, "/bin/nosuch")
			p, err = r.Create(t.Context(), b, Stdio{})
			must(t, err)
			if r.Start(t.Context(), p) == nil {
				t.Error("a missing program started")
			}
			wait(t, p)
			must(t, r.Delete(t.Context(), p))
			p.PIDFD.Close()
			b = bundle(t, "/bin/true")
			b.Rootfs.Lower = append(b.Rootfs.Lower, "/no/such/layer")
			if _, err := r.Create(t.Context(), b, Stdio{}); err == nil {
				t.Error("a missing layer was mounted")
			}
			b = bundle(t, "/bin/true")
			b.Spec.Linux.Sysctl = map[string]string{"net.no.such": "1"}
			if _, err := r.Create(t.Context(), b, Stdio{}); err == nil {
				t.Error("a missing sysctl was set")
			}
		}
		round() // what is made once
		fds, maps := descriptors(t), mappings(t)
		for range 3 {
			round()
		}
		if n := descriptors(t); n != fds {
			t.Errorf("%d descriptors, before %d", n, fds)
		}
		if n := mappings(t); n != maps {
			t.Errorf("%d shared mappings, before %d", n, maps)
		}
	})
}

func descriptors(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(d)
}

// mappings counts programs in memory: those in use, and the spare ones.
func mappings(t *testing.T) (n int) {
	t.Helper()
	for _, l := range lines("/proc/self/maps") {
		if strings.Contains(l, "/dev/zero") || strings.Contains(l, "memfd:kist-program") {
			n++
		}
	}
	return n
}
