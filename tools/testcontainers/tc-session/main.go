// Command tc-session is a test session as people write them with testcontainers: it starts containers in all the ways that the
// library has, waits for them in all the ways it knows, and then ends without clearing up, so that the reaper has something
// to do. It prints what it did and how long that took.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/exec"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

const box = "kist.test/busybox"

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"waits for a port, HTTP, a log line, a command, a file, health, exit", waits},
		{"exec with and without multiplexing", execs},
		{"files in and out", files},
		{"logs to a consumer", logs},
		{"two containers on a network, by alias", talk},
		{"an image from a Dockerfile", built},
		{"a volume and a tmpfs", mounts},
		{"stop, start, terminate", life},
		{"five at once", parallel},
		{"the same container again by name", reuse},
	} {
		begin := time.Now()
		if err := step.do(ctx); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", step.name, err)
			os.Exit(1)
		}
		fmt.Printf("did: %s: %.2f s\n", step.name, time.Since(begin).Seconds())
	}
}

// web serves /www on port 8080.
var web = testcontainers.WithCmd("sh", "-c", "mkdir -p /www; echo hello >/www/index.html; echo serving; exec httpd -f -p 8080 -h /www")

func waits(ctx context.Context) error {
	for name, opts := range map[string][]testcontainers.ContainerCustomizer{
		"port": {web, testcontainers.WithExposedPorts("8080/tcp"), testcontainers.WithWaitStrategy(wait.ForListeningPort("8080/tcp"))},
		"http": {web, testcontainers.WithExposedPorts("8080/tcp"), testcontainers.WithWaitStrategy(wait.ForHTTP("/").WithPort("8080/tcp"))},
		"log":  {web, testcontainers.WithWaitStrategy(wait.ForLog("serving"))},
		"exec": {web, testcontainers.WithWaitStrategy(wait.ForExec([]string{"test", "-s", "/www/index.html"}))},
		"file": {web, testcontainers.WithWaitStrategy(wait.ForFile("/www/index.html"))},
		"exit": {testcontainers.WithCmd("sleep", "0.2"), testcontainers.WithWaitStrategy(wait.ForExit())},
		"health": {web, testcontainers.WithWaitStrategy(wait.ForHealthCheck()), testcontainers.WithConfigModifier(func(c *container.Config) {
			c.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "test", "-s", "/www/index.html"}, Interval: 100 * time.Millisecond, Retries: 50}
		})},
	} {
		c, err := testcontainers.Run(ctx, box, opts...)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if name != "http" {
			continue
		}
		endpoint, err := c.PortEndpoint(ctx, "8080/tcp", "http")
		if err != nil {
			return err
		}
		if err := get(ctx, endpoint, "hello\n"); err != nil {
			return err
		}
	}
	return nil
}

func get(ctx context.Context, url, want string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return errors.Join(err, same(string(raw), want))
}

func same(got, want string) error {
	if got != want {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	return nil
}

// idle is a container that waits to be used.
func idle(ctx context.Context, opts ...testcontainers.ContainerCustomizer) (*testcontainers.DockerContainer, error) {
	return testcontainers.Run(ctx, box, append([]testcontainers.ContainerCustomizer{testcontainers.WithCmd("sleep", "1000")}, opts...)...)
}

func execs(ctx context.Context) error {
	c, err := idle(ctx, testcontainers.WithEnv(map[string]string{"A": "b"}))
	if err != nil {
		return err
	}
	code, r, err := c.Exec(ctx, []string{"sh", "-c", "echo $A $B; pwd; id -u; echo bad >&2; exit 3"}, exec.Multiplexed(),
		exec.WithEnv([]string{"B=c"}), exec.WithWorkingDir("/tmp"), exec.WithUser("7"))
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if code != 3 || !strings.Contains(string(raw), "b c\n/tmp\n7\n") || !strings.Contains(string(raw), "bad\n") {
		return fmt.Errorf("exec: code %d, %q", code, raw)
	}
	if _, r, err = c.Exec(ctx, []string{"echo", "framed"}); err != nil {
		return err
	}
	raw, err = io.ReadAll(r)
	return errors.Join(err, same(string(raw), "\x01\x00\x00\x00\x00\x00\x00\x07framed\n"))
}

func files(ctx context.Context) error {
	c, err := idle(ctx, testcontainers.WithFiles(testcontainers.ContainerFile{Reader: strings.NewReader("first"), ContainerFilePath: "/etc/new/first", FileMode: 0o600}))
	if err != nil {
		return err
	}
	if err := c.CopyToContainer(ctx, bytes.Repeat([]byte("0123456789"), 100_000), "/tmp/large", 0o644); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "tc-session-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(dir+"/file", []byte("in a directory"), 0o600); err != nil {
		return err
	}
	if err := c.CopyDirToContainer(ctx, dir, "/etc/"+base(dir), 0o755); err != nil {
		return err
	}
	for path, want := range map[string]string{
		"/etc/new/first":              "first",
		"/tmp/large":                  strings.Repeat("0123456789", 100_000),
		"/etc/" + base(dir) + "/file": "in a directory",
	} {
		r, err := c.CopyFileFromContainer(ctx, path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		raw, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
		if string(raw) != want {
			return fmt.Errorf("%s: %d bytes, not %d as they were", path, len(raw), len(want))
		}
	}
	return nil
}

func base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// listener collects what a container says.
type listener struct {
	mu   sync.Mutex
	said map[string]string // by stream; guarded by mu
}

func (l *listener) Accept(line testcontainers.Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said[line.LogType] += string(line.Content)
}

func logs(ctx context.Context) error {
	l := &listener{said: map[string]string{}}
	c, err := testcontainers.Run(ctx, box, testcontainers.WithCmd("sh", "-c", "echo one; echo two >&2; echo three; sleep 0.2"),
		testcontainers.WithLogConsumers(l), testcontainers.WithWaitStrategy(wait.ForExit()))
	if err != nil {
		return err
	}
	r, err := c.Logs(ctx)
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if got := string(raw); !strings.Contains(got, "one\n") || !strings.Contains(got, "two\n") || !strings.Contains(got, "three\n") {
		return fmt.Errorf("logs: %q", got)
	}
	for range 100 {
		l.mu.Lock()
		out, bad := l.said[testcontainers.StdoutLog], l.said[testcontainers.StderrLog]
		l.mu.Unlock()
		if out == "one\nthree\n" && bad == "two\n" {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("the consumer heard %v", l.said)
}

func talk(ctx context.Context) error {
	net, err := network.New(ctx, network.WithAttachable(), network.WithLabels(map[string]string{"of": "tc-session"}))
	if err != nil {
		return err
	}
	if _, err := testcontainers.Run(ctx, box, web, network.WithNetwork([]string{"pages"}, net), testcontainers.WithWaitStrategy(wait.ForFile("/www/index.html"))); err != nil {
		return err
	}
	c, err := idle(ctx, network.WithNetwork([]string{"reader"}, net))
	if err != nil {
		return err
	}
	var last error
	for range 50 { // The server listens a moment after its file is there.
		_, r, err := c.Exec(ctx, []string{"wget", "-q", "-O-", "http://pages:8080/"}, exec.Multiplexed())
		if err != nil {
			return err
		}
		raw, err := io.ReadAll(r)
		if last = errors.Join(err, same(string(raw), "hello\n")); last == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return last
}

func built(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "tc-session-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := "FROM " + box + "\nARG WHO\nRUN echo built for $WHO >/made\nCOPY data /data\nCMD cat /made /data\n"
	if err := errors.Join(os.WriteFile(dir+"/Dockerfile", []byte(file), 0o600), os.WriteFile(dir+"/data", []byte("with data\n"), 0o600)); err != nil {
		return err
	}
	who := "a session"
	var told bytes.Buffer
	c, err := testcontainers.Run(ctx, "", testcontainers.WithDockerfile(testcontainers.FromDockerfile{
		Context: dir, Repo: "tc-session", Tag: "built", BuildArgs: map[string]*string{"WHO": &who}, BuildLogWriter: &told,
	}), testcontainers.WithWaitStrategy(wait.ForExit()))
	if err != nil {
		return fmt.Errorf("%w: %s", err, told.String())
	}
	if !strings.Contains(told.String(), "RUN echo built for") {
		return fmt.Errorf("the build told %q", told.String())
	}
	r, err := c.Logs(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	raw, err := io.ReadAll(r)
	return errors.Join(err, same(string(raw), "built for a session\nwith data\n"))
}

func mounts(ctx context.Context) error {
	volume := testcontainers.WithMounts(testcontainers.VolumeMount("tc-session-data", "/data"))
	if _, err := testcontainers.Run(ctx, box, volume, testcontainers.WithCmd("sh", "-c", "echo kept >/data/file"), testcontainers.WithWaitStrategy(wait.ForExit())); err != nil {
		return err
	}
	c, err := idle(ctx, volume, testcontainers.WithTmpfs(map[string]string{"/fast": "size=64k"}))
	if err != nil {
		return err
	}
	_, r, err := c.Exec(ctx, []string{"sh", "-c", "cat /data/file; df -k /fast | tail -1 | awk '{print $2}'"}, exec.Multiplexed())
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(r)
	return errors.Join(err, same(string(raw), "kept\n64\n"))
}

func life(ctx context.Context) error {
	c, err := testcontainers.Run(ctx, box, web, testcontainers.WithExposedPorts("8080/tcp"), testcontainers.WithWaitStrategy(wait.ForHTTP("/").WithPort("8080/tcp")))
	if err != nil {
		return err
	}
	now := time.Duration(0)
	if err := c.Stop(ctx, &now); err != nil {
		return err
	}
	if s, err := c.State(ctx); err != nil || s.Running {
		return fmt.Errorf("stopped: %+v, %w", s, err)
	}
	if err := c.Start(ctx); err != nil {
		return err
	}
	endpoint, err := c.PortEndpoint(ctx, "8080/tcp", "http")
	if err != nil {
		return err
	}
	if err := get(ctx, endpoint, "hello\n"); err != nil {
		return err
	}
	return c.Terminate(ctx, testcontainers.StopTimeout(0))
}

func parallel(ctx context.Context) error {
	var reqs testcontainers.ParallelContainerRequest
	for range 5 {
		reqs = append(reqs, testcontainers.GenericContainerRequest{Started: true, ContainerRequest: testcontainers.ContainerRequest{
			Image: box, Cmd: []string{"sh", "-c", "echo up; exec sleep 1000"}, WaitingFor: wait.ForLog("up"),
		}})
	}
	all, err := testcontainers.ParallelContainers(ctx, reqs, testcontainers.ParallelContainersOptions{WorkersCount: 5})
	if err == nil && len(all) != 5 {
		err = fmt.Errorf("%d containers", len(all))
	}
	return err
}

func reuse(ctx context.Context) error {
	first, err := idle(ctx, testcontainers.WithReuseByName("tc-session-shared"))
	if err != nil {
		return err
	}
	second, err := idle(ctx, testcontainers.WithReuseByName("tc-session-shared"))
	if err != nil {
		return err
	}
	return same(second.GetContainerID(), first.GetContainerID())
}
