package test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"github.com/kistdev/kist/internal/testbed"
)

// program is a Go program that uses Docker's own client.
type program struct {
	t *testing.T
	c *client.Client
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestGoClient has Docker's Go client do what programs do with it, in the oldest and newest version that it speaks.
func TestGoClient(t *testing.T) {
	api := newAPI(t)
	for _, version := range []string{client.MinAPIVersion, "1.44", client.MaxAPIVersion, ""} {
		t.Run("version "+version, func(t *testing.T) {
			c, err := client.New(client.WithHost("unix://"+api.host.Socket()), client.WithAPIVersion(version))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			p := program{t, c}
			p.system()
			p.life()
			p.streams()
			p.files()
		})
	}
}

func (p program) system() {
	t, ctx := p.t, p.t.Context()
	must[client.PingResult](t)(p.c.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}))
	if info := must[client.SystemInfoResult](t)(p.c.Info(ctx, client.InfoOptions{})).Info; info.Containers == 0 || info.Images == 0 {
		t.Errorf("info: %d containers, %d images", info.Containers, info.Images)
	}
	must[client.ServerVersionResult](t)(p.c.ServerVersion(ctx, client.ServerVersionOptions{}))
	must[client.DiskUsageResult](t)(p.c.DiskUsage(ctx, client.DiskUsageOptions{Containers: true, Images: true, Volumes: true, BuildCache: true}))
	if l := must[client.ImageListResult](t)(p.c.ImageList(ctx, client.ImageListOptions{})); len(l.Items) == 0 {
		t.Error("no images")
	}
	must[client.ImageInspectResult](t)(p.c.ImageInspect(ctx, "kist.test/busybox"))
	must[client.ImageHistoryResult](t)(p.c.ImageHistory(ctx, "kist.test/busybox"))
	must[client.NetworkListResult](t)(p.c.NetworkList(ctx, client.NetworkListOptions{}))
	must[client.NetworkInspectResult](t)(p.c.NetworkInspect(ctx, "bridge", client.NetworkInspectOptions{}))
	must[client.VolumeListResult](t)(p.c.VolumeList(ctx, client.VolumeListOptions{}))
}

func (p program) create(config *container.Config, host *container.HostConfig) string {
	p.t.Helper()
	config.Image = "kist.test/busybox"
	return must[client.ContainerCreateResult](p.t)(p.c.ContainerCreate(p.t.Context(),
		client.ContainerCreateOptions{Config: config, HostConfig: host})).ID
}

// life creates, starts, waits, and reads the logs, and sees the events.
func (p program) life() {
	t := p.t
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	id := p.create(&container.Config{Cmd: []string{"sh", "-c", "echo out; echo err >&2; exit 7"}}, nil)
	feed := p.c.Events(ctx, client.EventsListOptions{Filters: make(client.Filters).Add("container", id).Add("type", "container")})
	wait := p.c.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	must[client.ContainerStartResult](t)(p.c.ContainerStart(ctx, id, client.ContainerStartOptions{}))
	select {
	case r := <-wait.Result:
		if r.StatusCode != 7 {
			t.Errorf("exit code %d", r.StatusCode)
		}
	case err := <-wait.Error:
		t.Fatal(err)
	}
	logs := must[client.ContainerLogsResult](t)(p.c.ContainerLogs(ctx, id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true}))
	var out, errOut bytes.Buffer
	must[int64](t)(stdcopy.StdCopy(&out, &errOut, logs))
	if out.String() != "out\n" || errOut.String() != "err\n" {
		t.Errorf("logs %q, %q", out.String(), errOut.String())
	}
	must[client.ContainerRemoveResult](t)(p.c.ContainerRemove(ctx, id, client.ContainerRemoveOptions{}))
	var seen []events.Action
	for len(seen) < 3 {
		select {
		case m := <-feed.Messages:
			seen = append(seen, m.Action)
		case err := <-feed.Err:
			t.Fatal(err)
		}
	}
	// The subscription may begin before or after the create's own event.
	seen = slices.DeleteFunc(seen, func(a events.Action) bool { return a == events.ActionCreate })
	if want := []events.Action{events.ActionStart, events.ActionDie, events.ActionDestroy}; !slices.Equal(seen, want[:len(seen)]) {
		t.Errorf("events %v", seen)
	}
}

// streams attaches, executes and measures.
func (p program) streams() {
	t := p.t
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	id := p.create(&container.Config{Cmd: []string{"cat"}, OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true}, nil)
	a := must[client.ContainerAttachResult](t)(p.c.ContainerAttach(ctx, id, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true}))
	defer a.Close()
	must[client.ContainerStartResult](t)(p.c.ContainerStart(ctx, id, client.ContainerStartOptions{}))

	x := must[client.ExecCreateResult](t)(p.c.ExecCreate(ctx, id, client.ExecCreateOptions{Cmd: []string{"sh", "-c", "echo $A; exit 3"}, Env: []string{"A=b"}, AttachStdout: true, AttachStderr: true}))
	xa := must[client.ExecAttachResult](t)(p.c.ExecAttach(ctx, x.ID, client.ExecAttachOptions{}))
	var out bytes.Buffer
	must[int64](t)(stdcopy.StdCopy(&out, io.Discard, xa.Reader))
	xa.Close()
	if in := must[client.ExecInspectResult](t)(p.c.ExecInspect(ctx, x.ID, client.ExecInspectOptions{})); out.String() != "b\n" || in.ExitCode != 3 {
		t.Errorf("exec: %q, %d", out.String(), in.ExitCode)
	}
	stats := must[client.ContainerStatsResult](t)(p.c.ContainerStats(ctx, id, client.ContainerStatsOptions{}))
	var sample container.StatsResponse
	if err := json.NewDecoder(stats.Body).Decode(&sample); err != nil || sample.MemoryStats.Usage == 0 || sample.PidsStats.Current != 1 {
		t.Errorf("stats: %v, %+v", err, sample.MemoryStats)
	}
	_ = stats.Body.Close()
	if top := must[client.ContainerTopResult](t)(p.c.ContainerTop(ctx, id, client.ContainerTopOptions{})); len(top.Processes) != 1 {
		t.Errorf("top: %v", top)
	}

	// More than all buffers on the way hold together.
	sent := bytes.Repeat([]byte("0123456789abcde\n"), 1<<16)
	go func() {
		_, _ = a.Conn.Write(sent)
		_ = a.CloseWrite()
	}()
	var got bytes.Buffer
	must[int64](t)(stdcopy.StdCopy(&got, io.Discard, a.Reader))
	if !bytes.Equal(got.Bytes(), sent) {
		t.Errorf("attach: %d of %d bytes came back", got.Len(), len(sent))
	}
	must[client.ContainerRemoveResult](t)(p.c.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true}))
}

// files copies into a container and out of it, and commits it.
func (p program) files() {
	t := p.t
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	id := p.create(&container.Config{Cmd: []string{"true"}}, nil)
	in := testbed.Tar(t, tar.Header{Name: "file", Mode: 0o640, Linkname: "text"})
	must[client.CopyToContainerResult](t)(p.c.CopyToContainer(ctx, id, client.CopyToContainerOptions{DestinationPath: "/tmp", Content: bytes.NewReader(in)}))
	r := must[client.CopyFromContainerResult](t)(p.c.CopyFromContainer(ctx, id, client.CopyFromContainerOptions{SourcePath: "/tmp/file"}))
	tr := tar.NewReader(r.Content)
	if _, err := tr.Next(); err != nil {
		t.Fatal(err)
	}
	if raw := must[[]byte](t)(io.ReadAll(tr)); string(raw) != "text" || r.Stat.Name != "file" || r.Stat.Size != 4 {
		t.Errorf("copied %q, %+v", raw, r.Stat)
	}
	_ = r.Content.Close()
	if d := must[client.ContainerDiffResult](t)(p.c.ContainerDiff(ctx, id, client.ContainerDiffOptions{})); len(d.Changes) == 0 {
		t.Error("no changes")
	}
	made := must[client.ContainerCommitResult](t)(p.c.ContainerCommit(ctx, id, client.ContainerCommitOptions{Reference: "kist.test/made:1", Changes: []string{"ENV A=b"}}))
	image := must[client.ImageInspectResult](t)(p.c.ImageInspect(ctx, "kist.test/made:1"))
	if image.ID != made.ID || !slices.Contains(image.Config.Env, "A=b") {
		t.Errorf("committed %s, %+v", image.ID, image.Config)
	}
	saved := must[client.ImageSaveResult](t)(p.c.ImageSave(ctx, []string{"kist.test/made:1"}))
	archive := must[[]byte](t)(io.ReadAll(saved))
	_ = saved.Close()
	must[client.ContainerRemoveResult](t)(p.c.ContainerRemove(ctx, id, client.ContainerRemoveOptions{}))
	must[client.ImageRemoveResult](t)(p.c.ImageRemove(ctx, "kist.test/made:1", client.ImageRemoveOptions{}))
	loaded := must[client.ImageLoadResult](t)(p.c.ImageLoad(ctx, bytes.NewReader(archive)))
	if told := must[[]byte](t)(io.ReadAll(loaded)); !strings.Contains(string(told), "kist.test/made:1") {
		t.Errorf("load told %s", told)
	}
	_ = loaded.Close()
	must[client.ImageRemoveResult](t)(p.c.ImageRemove(ctx, "kist.test/made:1", client.ImageRemoveOptions{}))
}

// TestPythonClient runs a program that uses Docker's Python client.
func TestPythonClient(t *testing.T) {
	const python = "/usr/bin/python3" // Debian's, which has Debian's modules.
	if err := exec.Command(python, "-c", "import docker").Run(); err != nil {
		t.Skip("skip: Docker's Python client is not installed (python3-docker)")
	}
	api := newAPI(t)
	script, err := os.ReadFile("testdata/client.py")
	if err != nil {
		t.Fatal(err)
	}
	archive := testbed.Recipes()["busybox"].MustArchive(t)
	for _, version := range []string{"1.24", "1.41", "auto"} {
		cmd := api.host.Command(python, "-c", string(script), api.host.Socket(), version, archive)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("version %s: %v\n%s", version, err, out)
		}
	}
}
