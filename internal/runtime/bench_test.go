package runtime

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/moby/profiles/seccomp"
)

// BenchmarkRun is a container's whole life with docker's defaults: create, start, wait, delete.
func BenchmarkRun(b *testing.B) {
	needRoot(b)
	for _, name := range []string{"fast", "plain"} {
		b.Run(name, func(b *testing.B) {
			if name == "fast" && !haveFast {
				b.Skip("the fast executor is not in this build")
			}
			r := newRuntime(b, name)
			bu := bundle(b, "/bin/true")
			profile, err := seccomp.GetDefaultProfile(bu.Spec)
			must(b, err)
			bu.Spec.Linux.Seccomp = profile
			var d durations
			for b.Loop() {
				d.start()
				p, err := r.Create(context.Background(), bu, Stdio{})
				must(b, err)
				must(b, r.Start(context.Background(), p))
				if c := wait(b, p); c != 0 {
					b.Fatalf("exit code %d", c)
				}
				d.stop()
				b.StopTimer()
				must(b, r.Delete(context.Background(), p))
				p.PIDFD.Close()
				b.StartTimer()
			}
			d.report(b)
		})
	}
}

// BenchmarkExec is an exec of true in a running container.
func BenchmarkExec(b *testing.B) {
	needRoot(b)
	r := newRuntime(b, "")
	bu := bundle(b, "/bin/sleep", "1000")
	p, err := r.Create(context.Background(), bu, Stdio{})
	must(b, err)
	must(b, r.Start(context.Background(), p))
	defer func() {
		must(b, r.Delete(context.Background(), p))
		wait(b, p)
		p.PIDFD.Close()
	}()
	proc := *bu.Spec.Process
	proc.Args = []string{"/bin/true"}
	var d durations
	for b.Loop() {
		d.start()
		e, err := r.Exec(context.Background(), ExecTarget{PIDFD: p.PIDFD, PID: p.PID, Spec: bu.Spec}, &proc, Stdio{})
		must(b, err)
		if c := wait(b, e); c != 0 {
			b.Fatalf("exit code %d", c)
		}
		d.stop()
		e.PIDFD.Close()
	}
	d.report(b)
}

// durations are the times of single rounds: on a busy machine the mean says little.
type durations struct {
	began time.Time
	all   []time.Duration
}

func (d *durations) start() { d.began = time.Now() }
func (d *durations) stop()  { d.all = append(d.all, time.Since(d.began)) }

func (d *durations) report(b *testing.B) {
	slices.Sort(d.all)
	b.ReportMetric(float64(d.all[0].Microseconds()), "min-us")
	b.ReportMetric(float64(d.all[len(d.all)/2].Microseconds()), "median-us")
}

// BenchmarkCompile is the pure part of it.
func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		c, err := compile(pureInput())
		must(b, err)
		im, err := load(c.Program, false)
		must(b, err)
		im.free()
	}
}

// BenchmarkRunEight runs eight containers at a time, clean-up included.
func BenchmarkRunEight(b *testing.B) {
	needRoot(b)
	r := newRuntime(b, "")
	next := make(chan struct{})
	var workers sync.WaitGroup
	for range 8 {
		bu := bundle(b, "/bin/true")
		workers.Go(func() {
			for range next {
				p, err := r.Create(context.Background(), bu, Stdio{})
				if err == nil {
					err = r.Start(context.Background(), p)
				}
				if err != nil {
					b.Error(err)
					continue
				}
				wait(b, p)
				if err := r.Delete(context.Background(), p); err != nil {
					b.Error(err)
				}
				p.PIDFD.Close()
			}
		})
	}
	for b.Loop() {
		next <- struct{}{}
	}
	close(next)
	workers.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "starts/s")
}
