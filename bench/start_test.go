package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed"
)

const busybox = "kist.test/busybox:latest"

func loaded(t *testing.T, p *program, r testbed.Recipe) error {
	t.Helper()
	return p.do("load", "-q", "-i", r.MustArchive(t))
}

// contestants are all that can run an image, with it present.
func contestants(t *testing.T) []*row {
	t.Helper()
	k := kist(t)
	if err := loaded(t, k, testbed.Busybox); err != nil {
		t.Fatal(err)
	}
	rows := []*row{
		{name: "kist run --rm", run: k.runner("run", "--rm", busybox, "true")},
		{name: "kist run --rm --network none", run: k.runner("run", "--rm", "--network", "none", busybox, "true")},
	}
	if d, err := docker(t); err != nil {
		rows = append(rows, failed("docker run --rm", err))
	} else if err := loaded(t, d, testbed.Busybox); err != nil {
		rows = append(rows, failed("docker run --rm", err))
	} else {
		rows = append(rows,
			&row{name: "docker run --rm", run: d.runner("run", "--rm", busybox, "true")},
			&row{name: "docker run --rm --network none", run: d.runner("run", "--rm", "--network", "none", busybox, "true")})
	}
	if p, err := podman(t); err != nil {
		rows = append(rows, failed("podman run --rm", err))
	} else if err := loaded(t, p, testbed.Busybox); err != nil {
		rows = append(rows, failed("podman run --rm", err))
	} else {
		limits := []string{"run", "--rm", "--ulimit", "nofile=20000:20000", "--ulimit", "nproc=1000:1000", "--network", "none", busybox, "true"}
		rows = append(rows, &row{name: "podman run --rm --network none", run: p.runner(limits...)})
	}
	if r, args, err := runc(t); err != nil {
		rows = append(rows, failed("runc run", err))
	} else {
		rows = append(rows, &row{name: "runc run", run: r.runner(args...)})
	}
	h := testbed.NewHost(t)
	u := &program{t: t, host: h, path: "/usr/bin/unshare"}
	return append(rows, &row{name: "unshare ... chroot ... true", run: u.runner("-m", "-p", "-f", "-n", "-u", "-i", "chroot", rootfs(t, h), "/bin/true")})
}

func TestStart(t *testing.T) {
	want(t, "start")
	rows := contestants(t)
	race(30, rows)
	report(t, "start: whole command, image present, daemon warm", rows)
}

func TestExec(t *testing.T) {
	want(t, "exec")
	k := kist(t)
	if err := loaded(t, k, testbed.Busybox); err != nil {
		t.Fatal(err)
	}
	if err := k.do("run", "-d", "--name", "box", busybox, "sleep", "100000"); err != nil {
		t.Fatal(err)
	}
	rows := []*row{{name: "kist exec", run: k.runner("exec", "box", "true")}}
	if d, err := docker(t); err != nil {
		rows = append(rows, failed("docker exec", err))
	} else {
		if err := loaded(t, d, testbed.Busybox); err != nil {
			t.Fatal(err)
		}
		if err := d.do("run", "-d", "--name", "box", busybox, "sleep", "100000"); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, &row{name: "docker exec", run: d.runner("exec", "box", "true")})
	}
	race(30, rows)
	report(t, "exec: whole command", rows)
}

// TestCold measures the first command on a host where no daemon runs.
func TestCold(t *testing.T) {
	want(t, "cold")
	r := &row{name: "kist version, no daemon running", run: func() error { return nil }}
	for range 10 {
		h := testbed.NewHost(t)
		p := &program{t: t, host: h, path: filepath.Join(testbed.Bin(), "kist"), env: []string{"DOCKER_HOST="}}
		begin := time.Now()
		if err := p.do("ps"); err != nil {
			t.Fatal(err)
		}
		r.times = append(r.times, time.Since(begin))
	}
	report(t, "first command with no daemon running", []*row{r})
}

func TestStop(t *testing.T) {
	want(t, "stop")
	k := kist(t)
	if err := loaded(t, k, testbed.Busybox); err != nil {
		t.Fatal(err)
	}
	r := &row{name: "kist stop"}
	for i := range 10 {
		name := "box" + strconv.Itoa(i)
		if err := k.do("run", "-d", "--name", name, busybox, "sleep", "100000"); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := k.do("stop", name); err != nil {
			t.Fatal(err)
		}
		r.times = append(r.times, time.Since(begin))
	}
	report(t, "stop of a container whose first process cannot receive SIGTERM", []*row{r})
}

// TestMany measures 500 starts, 8 at a time, and then what 500 idle containers cost.
func TestMany(t *testing.T) {
	want(t, "many")
	const total, atOnce = 500, 8
	k := kist(t)
	if err := loaded(t, k, testbed.Busybox); err != nil {
		t.Fatal(err)
	}
	// Each of them on a thread of its own in the host: what `xargs -P8` would measure.
	parallel := func(args func(i int) []string) (time.Duration, error) {
		begin := time.Now()
		next := make(chan int)
		ends := make(chan error, atOnce)
		for range atOnce {
			go func() {
				ends <- k.host.Inside(func() (err error) {
					for i := range next {
						err = errors.Join(err, k.command(args(i)...).Run())
					}
					return err
				})
			}()
		}
		for i := range total {
			next <- i
		}
		close(next)
		var errs []error
		for range atOnce {
			errs = append(errs, <-ends)
		}
		return time.Since(begin), errors.Join(errs...)
	}
	took, err := parallel(func(int) []string { return []string{"run", "--rm", busybox, "true"} })
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%d x kist run --rm, %d at a time, default network: %.1f a second", total, atOnce, total/took.Seconds())
	time.Sleep(5 * time.Second) // Idle, and all that starting takes is in memory: what is added now is the containers'.
	before := kistMemory(t, k)
	took, err = parallel(func(i int) []string {
		return []string{"run", "-d", "--name", "idle" + strconv.Itoa(i), busybox, "sleep", "100000"}
	})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Second) // Idle, not just started.
	after := kistMemory(t, k)
	t.Logf("\n%d x kist run -d, %d at a time: %.1f a second\nprivate memory: before %s, after %s: %.1f kB for each idle container",
		total, atOnce, total/took.Seconds(), before, after, float64(after.private()-before.private())/total)
}

// usage is the memory of kist's processes in kB, by program.
type usage map[string]struct{ rss, private int }

func (u usage) private() (sum int) {
	for _, m := range u {
		sum += m.private
	}
	return sum
}

func (u usage) String() string {
	var b strings.Builder
	for name, m := range u {
		fmt.Fprintf(&b, "%s RSS %.1f MB, private %.1f MB; ", name, float64(m.rss)/1024, float64(m.private)/1024)
	}
	return strings.TrimSuffix(b.String(), "; ")
}

func kistMemory(t *testing.T, p *program) usage {
	t.Helper()
	u := usage{}
	err := p.host.Inside(func() error {
		out, err := exec.Command("ps", "-eo", "pid,args").Output()
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(out)) {
			f := strings.Fields(line)
			if len(f) < 2 {
				continue
			}
			name := ""
			switch {
			case filepath.Base(f[1]) == "kistd":
				name = "daemon"
			case len(f) > 2 && filepath.Base(f[1]) == "kist" && f[2] == "keeper":
				name = "keeper"
			default:
				continue
			}
			raw, err := os.ReadFile("/proc/" + f[0] + "/smaps_rollup")
			if err != nil {
				return err
			}
			m := u[name]
			for l := range strings.Lines(string(raw)) {
				fields := strings.Fields(l)
				if len(fields) < 2 {
					continue
				}
				n, _ := strconv.Atoi(fields[1])
				switch fields[0] {
				case "Rss:":
					m.rss += n
				case "Private_Clean:", "Private_Dirty:":
					m.private += n
				}
			}
			u[name] = m
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestIdle(t *testing.T) {
	want(t, "idle")
	k := kist(t)
	if err := loaded(t, k, testbed.Busybox); err != nil {
		t.Fatal(err)
	}
	if err := k.do("run", "--rm", busybox, "true"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second)
	t.Logf("\nidle: %s", kistMemory(t, k))
}
