package bench

import (
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

// peak resets, or reads, a process's peak of resident memory in MB (proc(5), clear_refs and VmHWM).
func resetPeak(pid int) { _ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0) }

func peak(pid int) float64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.Atoi(strings.Fields(v)[0])
			return float64(kb) / 1024
		}
	}
	return 0
}

const science = "kist.test/science:latest"

func TestLoad(t *testing.T) {
	want(t, "load")
	archive := testbed.Science.MustArchive(t)
	k := kist(t)
	d, err := docker(t)
	rows := []*row{{name: "kist load", run: func() error { return k.do("load", "-q", "-i", archive) }}}
	if err != nil {
		rows = append(rows, failed("docker load", err))
	} else {
		rows = append(rows, &row{name: "docker load", run: func() error { return d.do("load", "-q", "-i", archive) }})
	}
	for range 2 {
		for i, r := range rows {
			if r.err != nil {
				continue
			}
			p := []*program{k, d}[i]
			resetPeak(p.pid)
			begin := time.Now()
			if r.err = r.run(); r.err == nil {
				r.times = append(r.times, time.Since(begin))
			}
			if i == 0 {
				t.Logf("kist's daemon: peak RSS %.0f MB", peak(p.pid))
			}
			if err := p.do("rmi", science); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				waitForDisk(t, k)
			}
		}
	}
	report(t, "load: Debian + python3 + numpy, scipy, pandas, 3 gzip layers", rows)
}

// waitForDisk waits until the removed image's layers are gone, so that their removal is not measured as the next row's.
func waitForDisk(t *testing.T, p *program) {
	t.Helper()
	for range 300 {
		out, _ := exec.Command("du", "-sm", filepath.Join(p.host.Dir, "data")).Output()
		if f := strings.Fields(string(out)); len(f) > 0 && len(f[0]) <= 2 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

const registryConfig = `version: 0.1
storage:
  filesystem: {rootdirectory: %s}
http: {addr: 127.0.0.1:5000}
`

// registry starts Debian's docker-registry on the loopback of a program's host.
func registry(t *testing.T, p *program, dir string) {
	t.Helper()
	path, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("skip: docker-registry is not installed")
	}
	file := filepath.Join(p.host.Dir, "registry.yml")
	if err := os.WriteFile(file, fmt.Appendf(nil, registryConfig, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := p.host.Command(path, "serve", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for range 500 {
		if _, err := p.host.Try("curl", "-sf", "http://127.0.0.1:5000/v2/"); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the registry does not answer")
}

func TestPull(t *testing.T) {
	want(t, "pull")
	const ref = "127.0.0.1:5000/science:latest"
	store := t.TempDir()
	k := kist(t)
	registry(t, k, store)
	for _, args := range [][]string{
		{"load", "-q", "-i", testbed.Science.MustArchive(t)},
		{"tag", science, ref},
		{"push", "-q", ref},
		{"rmi", ref, science},
	} {
		if err := k.do(args...); err != nil {
			t.Fatal(err)
		}
	}
	waitForDisk(t, k)
	rows := []*row{{name: "kist pull"}}
	programs := []*program{k}
	if d, err := docker(t); err != nil {
		rows = append(rows, failed("docker pull", err))
	} else {
		registry(t, d, store)
		rows, programs = append(rows, &row{name: "docker pull"}), append(programs, d)
	}
	for range 2 {
		for i, p := range programs {
			resetPeak(p.pid)
			begin := time.Now()
			if err := p.do("pull", "-q", ref); err != nil {
				t.Fatal(err)
			}
			rows[i].times = append(rows[i].times, time.Since(begin))
			if i == 0 {
				t.Logf("kist's daemon: peak RSS %.0f MB", peak(p.pid))
			}
			if err := p.do("rmi", ref); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				waitForDisk(t, k)
			}
		}
	}
	report(t, "pull from a registry on loopback: the same image", rows)
}

// TestLayers measures how much 60 layers add to a start.
func TestLayers(t *testing.T) {
	want(t, "layers")
	k := kist(t)
	if err := loaded(t, k, testbed.Busybox); err != nil {
		t.Fatal(err)
	}
	tag := busybox
	for i := 1; i < 60; i++ {
		next := "layers:" + strconv.Itoa(i+1)
		for _, args := range [][]string{
			{"run", "--name", "box", tag, "touch", "/file" + strconv.Itoa(i)}, {"commit", "box", next}, {"rm", "box"},
		} {
			if err := k.do(args...); err != nil {
				t.Fatal(err)
			}
		}
		tag = next
	}
	rows := []*row{
		{name: "kist run --rm, 60 layers", run: k.runner("run", "--rm", "layers:60", "true")},
		{name: "kist run --rm, 3 layers", run: k.runner("run", "--rm", "layers:3", "true")},
	}
	race(30, rows)
	report(t, "layers", rows)
}
