package test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/testbed"
	"github.com/kistdev/kist/internal/testbed/soak"
)

// TestGoClientWide has Docker's Go client do what less common programs do: terminals and their sizes, detaching, logs and events
// of a time, builds, registries, networks, volumes, archives, prunes, and what is refused.
func TestGoClientWide(t *testing.T) {
	b := newBench(t, "")
	registry := soak.Registry(t, b.host)
	for _, version := range []string{"1.44", ""} {
		c, err := client.New(client.WithHost("unix://"+b.host.Socket()), client.WithAPIVersion(version))
		if err != nil {
			t.Fatal(err)
		}
		p := program{t, c}
		for _, step := range []struct {
			what string
			do   func(ctx context.Context)
		}{
			{"terminals: sizes, detach keys", p.terminals},
			{"logs: since, until, tail, timestamps, details", p.someLogs},
			{"events: since, until, filters", p.someEvents},
			{"stats, stream and top", p.measured},
			{"waits: next exit, removed", p.waits},
			{"build: target, arguments, labels, network, and one that fails", p.builds},
			{"push, distribution, pull", func(ctx context.Context) { p.distributes(ctx, registry) }},
			{"networks: pools, aliases, connect, disconnect", p.connects},
			{"update, rename, restart, pause, kill", p.changes},
			{"export, import, inspect by platform, history", p.archives},
			{"what is refused, by class", p.refused},
			{"prunes with what they freed", p.prunes},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			step.do(ctx)
			cancel()
			if t.Failed() {
				t.Fatalf("version %q: %s", version, step.what)
			}
			b.done(step.what)
		}
		_ = c.Close()
	}
	b.tell("github.com/moby/moby/client")
}

// up starts a container, which is removed with the test's step at the latest by prunes.
func (p program) up(ctx context.Context, config *container.Config, host *container.HostConfig) string {
	p.t.Helper()
	id := p.create(config, host)
	must[client.ContainerStartResult](p.t)(p.c.ContainerStart(ctx, id, client.ContainerStartOptions{}))
	return id
}

func (p program) idle(ctx context.Context) string {
	p.t.Helper()
	return p.up(ctx, &container.Config{Cmd: []string{"sleep", "1000"}, Labels: map[string]string{"wide": ""}}, nil)
}

func (p program) remove(ctx context.Context, id string) {
	p.t.Helper()
	must[client.ContainerRemoveResult](p.t)(p.c.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true}))
}

func (p program) is(what string, ok bool, got ...any) {
	p.t.Helper()
	if !ok {
		p.t.Errorf("%s: %+v", what, got)
	}
}

func (p program) terminals(ctx context.Context) {
	t := p.t
	id := p.create(&container.Config{Cmd: []string{"sh"}, Tty: true, OpenStdin: true, AttachStdin: true}, &container.HostConfig{ConsoleSize: [2]uint{31, 91}})
	attach := func(keys string) client.ContainerAttachResult {
		return must[client.ContainerAttachResult](t)(p.c.ContainerAttach(ctx, id, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, DetachKeys: keys}))
	}
	a := attach("ctrl-a,z")
	must[client.ContainerStartResult](t)(p.c.ContainerStart(ctx, id, client.ContainerStartOptions{}))
	say := func(text string) { must[int](t)(a.Conn.Write([]byte(text))) }
	say("stty size\n")
	seen := make([]byte, 0, 256)
	for buf := make([]byte, 64); !bytes.Contains(seen, []byte("31 91")); {
		n, err := a.Reader.Read(buf)
		if seen = append(seen, buf[:n]...); err != nil {
			t.Fatalf("%v: %q", err, seen)
		}
	}
	say("\x01z")
	must[[]byte](t)(io.ReadAll(a.Reader)) // Ends, while the container goes on.
	a.Close()
	s := must[client.ContainerInspectResult](t)(p.c.ContainerInspect(ctx, id, client.ContainerInspectOptions{})).Container
	p.is("running after detaching", s.State.Running, s.State)
	a = attach("")
	must[client.ContainerResizeResult](t)(p.c.ContainerResize(ctx, id, client.ContainerResizeOptions{Height: 20, Width: 70}))
	say("stty size; exit\n")
	raw := must[[]byte](t)(io.ReadAll(a.Reader))
	a.Close()
	p.is("resized", bytes.Contains(raw, []byte("20 70")), string(raw))
	p.remove(ctx, id)

	id = p.idle(ctx)
	x := must[client.ExecCreateResult](t)(p.c.ExecCreate(ctx, id, client.ExecCreateOptions{
		TTY: true, ConsoleSize: client.ConsoleSize{Height: 17, Width: 71}, AttachStdin: true, AttachStdout: true,
		Cmd: []string{"sh", "-c", "stty size; read x; stty size"}, User: "7:8", WorkingDir: "/tmp", Privileged: true,
	}))
	xa := must[client.ExecAttachResult](t)(p.c.ExecAttach(ctx, x.ID, client.ExecAttachOptions{TTY: true, ConsoleSize: client.ConsoleSize{Height: 17, Width: 71}}))
	must[client.ExecResizeResult](t)(p.c.ExecResize(ctx, x.ID, client.ExecResizeOptions{Height: 18, Width: 72}))
	must[int](t)(xa.Conn.Write([]byte("\n")))
	raw = must[[]byte](t)(io.ReadAll(xa.Reader))
	xa.Close()
	p.is("exec's sizes", bytes.Contains(raw, []byte("18 72")), string(raw))
	p.remove(ctx, id)
}

func (p program) someLogs(ctx context.Context) {
	t := p.t
	id := p.up(ctx, &container.Config{Cmd: []string{"sh", "-c", "echo one; sleep 0.3; echo two; sleep 0.1; echo bad >&2"}, Labels: map[string]string{"shown": "yes"}},
		&container.HostConfig{LogConfig: container.LogConfig{Type: "json-file", Config: map[string]string{"labels": "shown"}}})
	read := func(o client.ContainerLogsOptions) string {
		t.Helper()
		o.ShowStdout = true
		r := must[client.ContainerLogsResult](t)(p.c.ContainerLogs(ctx, id, o))
		defer r.Close()
		var out bytes.Buffer
		must[int64](t)(stdcopy.StdCopy(&out, &out, r))
		return out.String()
	}
	p.is("followed", read(client.ContainerLogsOptions{Follow: true}) == "one\ntwo\n")
	stamped := read(client.ContainerLogsOptions{Timestamps: true})
	first, _, _ := strings.Cut(stamped, " ")
	at, err := time.Parse(time.RFC3339Nano, first)
	p.is("timestamps", err == nil, err, stamped)
	middle := at.Add(150 * time.Millisecond).Format(time.RFC3339Nano)
	p.is("until", read(client.ContainerLogsOptions{Until: middle}) == "one\n", read(client.ContainerLogsOptions{Until: middle}))
	p.is("since", read(client.ContainerLogsOptions{Since: middle}) == "two\n", read(client.ContainerLogsOptions{Since: middle}))
	p.is("tail", read(client.ContainerLogsOptions{Tail: "1", ShowStderr: true}) == "bad\n", read(client.ContainerLogsOptions{Tail: "1", ShowStderr: true}))
	p.is("details", strings.HasPrefix(read(client.ContainerLogsOptions{Details: true}), "shown=yes one\n"), read(client.ContainerLogsOptions{Details: true}))
	p.remove(ctx, id)
}

func (p program) someEvents(ctx context.Context) {
	t := p.t
	begin := time.Now()
	id := p.idle(ctx)
	n := must[client.NetworkCreateResult](t)(p.c.NetworkCreate(ctx, "wide", client.NetworkCreateOptions{}))
	must[client.NetworkRemoveResult](t)(p.c.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{}))
	must[client.VolumeCreateResult](t)(p.c.VolumeCreate(ctx, client.VolumeCreateOptions{Name: "wide"}))
	must[client.VolumeRemoveResult](t)(p.c.VolumeRemove(ctx, "wide", client.VolumeRemoveOptions{}))
	must[client.ImageTagResult](t)(p.c.ImageTag(ctx, client.ImageTagOptions{Source: "kist.test/busybox", Target: "wide:1"}))
	must[client.ImageRemoveResult](t)(p.c.ImageRemove(ctx, "wide:1", client.ImageRemoveOptions{}))
	p.remove(ctx, id)
	replay := func(f client.Filters) string {
		t.Helper()
		feed := p.c.Events(ctx, client.EventsListOptions{
			Since: fmt.Sprintf("%d.%09d", begin.Unix(), begin.Nanosecond()), Until: fmt.Sprintf("%d.%09d", time.Now().Unix(), time.Now().Nanosecond()), Filters: f,
		})
		var seen []string
		for {
			select {
			case m := <-feed.Messages:
				seen = append(seen, string(m.Type)+" "+string(m.Action))
			case err := <-feed.Err:
				if !errors.Is(err, io.EOF) {
					t.Error(err)
				}
				return strings.Join(seen, ", ")
			}
		}
	}
	for want, f := range map[string]client.Filters{
		"container create, container start, container kill, container die, container destroy": make(client.Filters).Add("label", "wide").Add("type", "container"),
		"network create, network destroy": make(client.Filters).Add("network", "wide"),
		"volume create, volume destroy":   make(client.Filters).Add("type", string(events.VolumeEventType)).Add("volume", "wide"),
		"image tag, image untag":          make(client.Filters).Add("type", "image").Add("event", "tag", "untag"),
		"container die":                   make(client.Filters).Add("event", "die").Add("container", id[:12]),
	} {
		got := replay(f)
		p.is(fmt.Sprintf("events by %v", f), got == want, got)
	}
}

func (p program) measured(ctx context.Context) {
	t := p.t
	id := p.idle(ctx)
	s := must[client.ContainerStatsResult](t)(p.c.ContainerStats(ctx, id, client.ContainerStatsOptions{Stream: true}))
	d := json.NewDecoder(s.Body)
	for i := range 2 {
		var one container.StatsResponse
		if err := d.Decode(&one); err != nil {
			t.Fatal(err)
		}
		p.is("stats", one.ID == id && one.Name != "" && one.CPUStats.SystemUsage > 0 && (i == 0 || one.PreCPUStats.SystemUsage > 0), one)
	}
	_ = s.Body.Close()
	top := must[client.ContainerTopResult](t)(p.c.ContainerTop(ctx, id, client.ContainerTopOptions{Arguments: []string{"-o", "pid,args"}}))
	p.is("top", len(top.Processes) == 1 && top.Processes[0][1] == "sleep 1000", top)
	p.remove(ctx, id)
}

func (p program) waits(ctx context.Context) {
	id := p.create(&container.Config{Cmd: []string{"sh", "-c", "sleep 0.1; exit 6"}}, &container.HostConfig{AutoRemove: true})
	next := p.c.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	removed := p.c.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionRemoved})
	must[client.ContainerStartResult](p.t)(p.c.ContainerStart(ctx, id, client.ContainerStartOptions{}))
	for what, w := range map[string]client.ContainerWaitResult{"next exit": next, "removed": removed} {
		select {
		case r := <-w.Result:
			p.is(what, r.StatusCode == 6 && r.Error == nil, r)
		case err := <-w.Error:
			p.t.Errorf("%s: %v", what, err)
		}
	}
	_, err := p.c.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	p.is("removed", errdefs.IsNotFound(err), err)
}

func (p program) builds(ctx context.Context) {
	t := p.t
	build := func(dockerfile string, o client.ImageBuildOptions) (client.ImageBuildResult, error) {
		t.Helper()
		in := testbed.Tar(t, tar.Header{Name: "sub/Other", Linkname: dockerfile}, tar.Header{Name: "sub/data", Linkname: "data\n"})
		o.Dockerfile, o.Remove, o.ForceRemove = "sub/Other", true, true
		return p.c.ImageBuild(ctx, bytes.NewReader(in), o)
	}
	built := func(dockerfile string, o client.ImageBuildOptions) string {
		t.Helper()
		r := must[client.ImageBuildResult](t)(build(dockerfile, o))
		defer r.Body.Close()
		return string(must[[]byte](t)(io.ReadAll(r.Body)))
	}
	arg := "argued"
	told := built("FROM kist.test/busybox AS one\nARG A\nRUN echo $A >/a; ls /sys/class/net >/net\nFROM one AS two\nCOPY sub/data /\nENV B=$A\nFROM nosuch AS three\n", client.ImageBuildOptions{
		Tags: []string{"wide:built", "wide:too"}, BuildArgs: map[string]*string{"A": &arg}, Target: "two", Labels: map[string]string{"l": "v"}, NetworkMode: "none",
		NoCache: true, ExtraHosts: []string{"there:1.2.3.4"}, ShmSize: 1 << 20, Memory: 64 << 20, Platforms: []ocispec.Platform{},
	})
	p.is("built", strings.Contains(told, "Successfully tagged wide:too"), told)
	id := p.up(ctx, &container.Config{Cmd: []string{"true"}}, nil)
	p.remove(ctx, id)
	img := must[client.ImageInspectResult](t)(p.c.ImageInspect(ctx, "wide:built"))
	p.is("labels", img.Config.Labels["l"] == "v" && len(img.RepoTags) == 2, img)
	made := must[client.ContainerCreateResult](t)(p.c.ContainerCreate(ctx, client.ContainerCreateOptions{Image: "wide:built", Config: &container.Config{Cmd: []string{"cat", "/a", "/net", "/data"}}}))
	must[client.ContainerStartResult](t)(p.c.ContainerStart(ctx, made.ID, client.ContainerStartOptions{}))
	w := p.c.ContainerWait(ctx, made.ID, client.ContainerWaitOptions{})
	select {
	case <-w.Result:
	case err := <-w.Error:
		t.Error(err)
	}
	r := must[client.ContainerLogsResult](t)(p.c.ContainerLogs(ctx, made.ID, client.ContainerLogsOptions{ShowStdout: true}))
	var out bytes.Buffer
	must[int64](t)(stdcopy.StdCopy(&out, &out, r))
	_ = r.Close()
	p.is("what was built", out.String() == "argued\nlo\ndata\n", out.String())
	p.remove(ctx, made.ID)
	must[client.ImageRemoveResult](t)(p.c.ImageRemove(ctx, "wide:built", client.ImageRemoveOptions{}))
	must[client.ImageRemoveResult](t)(p.c.ImageRemove(ctx, "wide:too", client.ImageRemoveOptions{}))
	told = built("FROM kist.test/busybox\nRUN no-such-command\n", client.ImageBuildOptions{})
	p.is("a build that fails", strings.Contains(told, `"errorDetail"`) && strings.Contains(told, "127"), told)
	_, err := build("FRM x\n", client.ImageBuildOptions{})
	p.is("a build with a misspelt instruction", errdefs.IsInvalidArgument(err) && strings.Contains(err.Error(), "unknown instruction: FRM"), err)
}

func (p program) distributes(ctx context.Context, registry string) {
	if registry == "" {
		p.t.Log("docker-registry is not installed: nothing is pushed")
		return
	}
	t, ref := p.t, registry+"/wide/box:1"
	must[client.ImageTagResult](t)(p.c.ImageTag(ctx, client.ImageTagOptions{Source: "kist.test/busybox", Target: ref}))
	push := must[client.ImagePushResponse](t)(p.c.ImagePush(ctx, ref, client.ImagePushOptions{RegistryAuth: "e30="}))
	if err := push.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	d := must[client.DistributionInspectResult](t)(p.c.DistributionInspect(ctx, ref, client.DistributionInspectOptions{}))
	p.is("distribution", d.Descriptor.Digest != "" && len(d.Platforms) == 1 && d.Platforms[0].OS == "linux", d)
	must[client.ImageRemoveResult](t)(p.c.ImageRemove(ctx, ref, client.ImageRemoveOptions{}))
	byDigest := registry + "/wide/box@" + d.Descriptor.Digest.String()
	pull := must[client.ImagePullResponse](t)(p.c.ImagePull(ctx, byDigest, client.ImagePullOptions{}))
	var said []string
	for m, err := range pull.JSONMessages(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, m.Status)
	}
	p.is("pull's progress", len(said) > 1 && strings.HasPrefix(said[len(said)-1], "Status: "), said)
	img := must[client.ImageInspectResult](t)(p.c.ImageInspect(ctx, byDigest))
	p.is("its digest", len(img.RepoDigests) > 0, img.RepoDigests)
	must[client.ImageRemoveResult](t)(p.c.ImageRemove(ctx, byDigest, client.ImageRemoveOptions{}))
	if r, err := p.c.ImagePull(ctx, registry+"/no/such:1", client.ImagePullOptions{}); err == nil {
		err = r.Wait(ctx)
		p.is("pull of what is not there", err != nil)
	} else {
		p.is("pull of what is not there", errdefs.IsNotFound(err), err)
	}
}

func (p program) connects(ctx context.Context) {
	t := p.t
	pool := network.IPAMConfig{}
	if err := json.Unmarshal([]byte(`{"Subnet":"10.74.0.0/24","Gateway":"10.74.0.1","IPRange":"10.74.0.128/25"}`), &pool); err != nil {
		t.Fatal(err)
	}
	n := must[client.NetworkCreateResult](t)(p.c.NetworkCreate(ctx, "wide", client.NetworkCreateOptions{
		Driver: "bridge", IPAM: &network.IPAM{Config: []network.IPAMConfig{pool}}, Labels: map[string]string{"l": "v"}, Options: map[string]string{"com.docker.network.driver.mtu": "1300"},
	}))
	id := p.idle(ctx)
	must[client.NetworkConnectResult](t)(p.c.NetworkConnect(ctx, n.ID, client.NetworkConnectOptions{Container: id, EndpointConfig: &network.EndpointSettings{Aliases: []string{"known"}}}))
	s := must[client.ContainerInspectResult](t)(p.c.ContainerInspect(ctx, id, client.ContainerInspectOptions{})).Container.NetworkSettings.Networks["wide"]
	p.is("endpoint", s != nil && strings.HasPrefix(s.IPAddress.String(), "10.74.0.1") && s.NetworkID == n.ID && strings.Contains(strings.Join(s.DNSNames, " "), "known"), s)
	seen := must[client.NetworkInspectResult](t)(p.c.NetworkInspect(ctx, "wide", client.NetworkInspectOptions{Verbose: true})).Network
	p.is("network", len(seen.Containers) == 1 && seen.Labels["l"] == "v" && seen.IPAM.Config[0].Subnet.String() == "10.74.0.0/24", seen)
	_, err := p.c.NetworkRemove(ctx, "wide", client.NetworkRemoveOptions{})
	p.is("a network in use", errdefs.IsPermissionDenied(err), err)
	_, err = p.c.NetworkConnect(ctx, "wide", client.NetworkConnectOptions{Container: id})
	p.is("connected twice", errdefs.IsPermissionDenied(err), err)
	must[client.NetworkDisconnectResult](t)(p.c.NetworkDisconnect(ctx, "wide", client.NetworkDisconnectOptions{Container: id}))
	must[client.NetworkRemoveResult](t)(p.c.NetworkRemove(ctx, "wide", client.NetworkRemoveOptions{}))
	p.remove(ctx, id)
}

func (p program) changes(ctx context.Context) {
	t := p.t
	id := p.idle(ctx)
	inspect := func() container.InspectResponse {
		return must[client.ContainerInspectResult](t)(p.c.ContainerInspect(ctx, id, client.ContainerInspectOptions{})).Container
	}
	must[client.ContainerUpdateResult](t)(p.c.ContainerUpdate(ctx, id, client.ContainerUpdateOptions{
		Resources: &container.Resources{Memory: 32 << 20, MemorySwap: 32 << 20, CPUShares: 256}, RestartPolicy: &container.RestartPolicy{Name: "always"},
	}))
	must[client.ContainerRenameResult](t)(p.c.ContainerRename(ctx, id, client.ContainerRenameOptions{NewName: "wide-renamed"}))
	s := inspect()
	p.is("updated", s.HostConfig.Memory == 32<<20 && s.HostConfig.CPUShares == 256 && s.HostConfig.RestartPolicy.Name == "always" && s.Name == "/wide-renamed", s.HostConfig)
	begun := s.State.StartedAt
	none := 0
	must[client.ContainerRestartResult](t)(p.c.ContainerRestart(ctx, id, client.ContainerRestartOptions{Timeout: &none}))
	p.is("restarted", inspect().State.StartedAt != begun)
	must[client.ContainerPauseResult](t)(p.c.ContainerPause(ctx, id, client.ContainerPauseOptions{}))
	p.is("paused", inspect().State.Status == container.StatePaused)
	must[client.ContainerUnpauseResult](t)(p.c.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{}))
	must[client.ContainerUpdateResult](t)(p.c.ContainerUpdate(ctx, id, client.ContainerUpdateOptions{RestartPolicy: &container.RestartPolicy{Name: "no"}}))
	must[client.ContainerKillResult](t)(p.c.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "9"}))
	w := p.c.ContainerWait(ctx, id, client.ContainerWaitOptions{})
	select {
	case r := <-w.Result:
		p.is("killed", r.StatusCode == 137, r)
	case err := <-w.Error:
		t.Error(err)
	}
	p.remove(ctx, id)
}

func (p program) archives(ctx context.Context) {
	t := p.t
	id := p.up(ctx, &container.Config{Cmd: []string{"touch", "/made"}}, nil)
	w := p.c.ContainerWait(ctx, id, client.ContainerWaitOptions{})
	select {
	case <-w.Result:
	case err := <-w.Error:
		t.Error(err)
	}
	stat := must[client.ContainerStatPathResult](t)(p.c.ContainerStatPath(ctx, id, client.ContainerStatPathOptions{Path: "/made"})).Stat
	p.is("stat", stat.Name == "made" && stat.Mode.IsRegular(), stat)
	out := must[client.ContainerExportResult](t)(p.c.ContainerExport(ctx, id, client.ContainerExportOptions{}))
	in := must[client.ImageImportResult](t)(p.c.ImageImport(ctx, client.ImageImportSource{Source: out, SourceName: "-"}, "wide:imported", client.ImageImportOptions{Changes: []string{"CMD ls /made"}, Message: "brought in"}))
	must[int64](t)(io.Copy(io.Discard, in))
	if err := errors.Join(in.Close(), out.Close()); err != nil {
		t.Error(err)
	}
	img := must[client.ImageInspectResult](t)(p.c.ImageInspect(ctx, "wide:imported"))
	p.is("imported", len(img.RootFS.Layers) == 1 && img.Comment == "brought in" && strings.Contains(strings.Join(img.Config.Cmd, " "), "ls /made"), img)
	h := must[client.ImageHistoryResult](t)(p.c.ImageHistory(ctx, "wide:imported"))
	p.is("history", len(h.Items) == 1 && h.Items[0].Comment == "brought in", h.Items)
	must[client.ImageRemoveResult](t)(p.c.ImageRemove(ctx, "wide:imported", client.ImageRemoveOptions{}))
	p.remove(ctx, id)
}

func (p program) refused(ctx context.Context) {
	_, err := p.c.SwarmInspect(ctx, client.SwarmInspectOptions{})
	p.is("swarm", errdefs.IsUnavailable(err) && strings.Contains(err.Error(), "not a swarm manager"), err)
	list, err := p.c.PluginList(ctx, client.PluginListOptions{})
	p.is("plugins", err == nil && len(list.Items) == 0, err)
	_, err = p.c.ContainerCreate(ctx, client.ContainerCreateOptions{Image: "kist.test/busybox", Config: &container.Config{Cmd: []string{"true"}}, Platform: &ocispec.Platform{OS: "linux", Architecture: "s390x"}})
	p.is("another platform", errdefs.IsNotFound(err), err)
	_, err = p.c.ContainerStart(ctx, p.create(&container.Config{Cmd: []string{"/no/such"}, Labels: map[string]string{"wide": ""}}, nil), client.ContainerStartOptions{})
	p.is("a command that is not there", errdefs.IsInvalidArgument(err) && strings.Contains(err.Error(), "no such file or directory"), err)
	_, err = p.c.VolumeInspect(ctx, "nosuch", client.VolumeInspectOptions{})
	p.is("a volume", errdefs.IsNotFound(err), err)
	_, err = p.c.ImageRemove(ctx, "nosuch", client.ImageRemoveOptions{})
	p.is("an image", errdefs.IsNotFound(err), err)
}

func (p program) prunes(ctx context.Context) {
	t := p.t
	id := p.create(&container.Config{Cmd: []string{"true"}, Labels: map[string]string{"wide": ""}}, nil)
	must[client.VolumeCreateResult](t)(p.c.VolumeCreate(ctx, client.VolumeCreateOptions{Name: "wide", Labels: map[string]string{"wide": ""}}))
	must[client.NetworkCreateResult](t)(p.c.NetworkCreate(ctx, "wide", client.NetworkCreateOptions{Labels: map[string]string{"wide": ""}}))
	mine := func() client.Filters { return make(client.Filters).Add("label", "wide") } // Calls add to it.
	c := must[client.ContainerPruneResult](t)(p.c.ContainerPrune(ctx, client.ContainerPruneOptions{Filters: mine()})).Report
	p.is("containers", strings.Contains(strings.Join(c.ContainersDeleted, " "), id), c)
	v := must[client.VolumePruneResult](t)(p.c.VolumePrune(ctx, client.VolumePruneOptions{All: true, Filters: mine()})).Report
	p.is("volumes", len(v.VolumesDeleted) == 1, v)
	n := must[client.NetworkPruneResult](t)(p.c.NetworkPrune(ctx, client.NetworkPruneOptions{Filters: mine()})).Report
	p.is("networks", len(n.NetworksDeleted) == 1, n)
	must[client.ImagePruneResult](t)(p.c.ImagePrune(ctx, client.ImagePruneOptions{}))
	b := must[client.BuildCachePruneResult](t)(p.c.BuildCachePrune(ctx, client.BuildCachePruneOptions{All: true})).Report
	p.is("build cache", len(b.CachesDeleted) > 0, b)
	must[client.DiskUsageResult](t)(p.c.DiskUsage(ctx, client.DiskUsageOptions{Containers: true, Images: true, Volumes: true, BuildCache: true, Verbose: true}))
}
