// Command engine-session does with github.com/docker/docker/client, the module that programs used before Docker split its
// client off, what programs do: it is the client of most that is out there. It prints what it did and how long that took.
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"
	"github.com/docker/docker/errdefs"
	"github.com/docker/docker/pkg/jsonmessage"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/docker/go-connections/nat"
)

const box = "kist.test/busybox"

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		fail("connect", err)
	}
	defer c.Close()
	for _, step := range []struct {
		name string
		do   func(context.Context, *client.Client) error
	}{
		{"run with ports, limits and a health check, to the end", run},
		{"attach with input", attach},
		{"events of a life", watch},
		{"exec, attached and not", execute},
		{"stats, a stream of them", stats},
		{"build, commit, history, save, load, remove", images},
		{"files in and out", files},
		{"networks and volumes", around},
		{"errors by class", classes},
	} {
		begin := time.Now()
		if err := step.do(ctx, c); err != nil {
			fail(step.name, err)
		}
		fmt.Printf("did: %s: %.2f s\n", step.name, time.Since(begin).Seconds())
	}
	fmt.Println("version:", c.ClientVersion())
}

func fail(what string, err error) {
	fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
	os.Exit(1)
}

func want(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

func started(ctx context.Context, c *client.Client, config *container.Config, host *container.HostConfig) (string, error) {
	config.Image = box
	made, err := c.ContainerCreate(ctx, config, host, nil, nil, "")
	if err != nil {
		return "", err
	}
	return made.ID, c.ContainerStart(ctx, made.ID, container.StartOptions{})
}

func remove(ctx context.Context, c *client.Client, id string) error {
	return c.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
}

func run(ctx context.Context, c *client.Client) error {
	id, err := started(ctx, c, &container.Config{
		Cmd:          []string{"sh", "-c", "echo out; echo bad >&2; sleep 0.4; exit 7"},
		ExposedPorts: nat.PortSet{"80/tcp": {}}, Labels: map[string]string{"of": "engine-session"},
		Healthcheck: &container.HealthConfig{Test: []string{"CMD", "true"}, Interval: 50 * time.Millisecond},
	}, &container.HostConfig{
		PortBindings: nat.PortMap{"80/tcp": {{HostIP: "127.0.0.1"}}},
		Resources:    container.Resources{Memory: 32 << 20, NanoCPUs: 5e8},
	})
	if err != nil {
		return err
	}
	seen, err := c.ContainerInspect(ctx, id)
	if err != nil {
		return err
	}
	bound := seen.NetworkSettings.Ports["80/tcp"]
	if len(bound) != 1 || bound[0].HostPort == "" || seen.HostConfig.Memory != 32<<20 || seen.State.Health == nil {
		return fmt.Errorf("inspected %+v %+v %+v", bound, seen.HostConfig.Resources, seen.State)
	}
	ended, broken := c.ContainerWait(ctx, id, container.WaitConditionNotRunning)
	select {
	case err := <-broken:
		return err
	case r := <-ended:
		if r.StatusCode != 7 {
			return fmt.Errorf("ended with %d", r.StatusCode)
		}
	}
	logs, err := c.ContainerLogs(ctx, id, container.LogsOptions{ShowStdout: true, ShowStderr: true, Timestamps: true, Since: "1970-01-02T00:00:00Z"})
	if err != nil {
		return err
	}
	defer logs.Close()
	var out, bad bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &bad, logs); err != nil {
		return err
	}
	list, err := c.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", "of=engine-session"), filters.Arg("exited", "7"))})
	if err != nil {
		return err
	}
	return errors.Join(
		want(strings.HasSuffix(out.String(), "Z out\n") && strings.HasSuffix(bad.String(), "Z bad\n"), "logs: %q %q", out.String(), bad.String()),
		want(len(list) == 1 && list[0].State == "exited", "listed %+v", list),
		remove(ctx, c, id))
}

func attach(ctx context.Context, c *client.Client) error {
	made, err := c.ContainerCreate(ctx, &container.Config{Image: box, Cmd: []string{"sh", "-c", "tr a-z A-Z; echo end >&2"}, OpenStdin: true, StdinOnce: true, AttachStdin: true}, nil, nil, nil, "")
	if err != nil {
		return err
	}
	conn, err := c.ContainerAttach(ctx, made.ID, container.AttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := c.ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
		return err
	}
	if _, err := conn.Conn.Write([]byte("spoken softly\n")); err != nil {
		return err
	}
	if err := conn.CloseWrite(); err != nil { // The half that reads stays open.
		return err
	}
	var out, bad bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &bad, conn.Reader); err != nil {
		return err
	}
	return errors.Join(want(out.String() == "SPOKEN SOFTLY\n" && bad.String() == "end\n", "attached: %q %q", out.String(), bad.String()), remove(ctx, c, made.ID))
}

func watch(ctx context.Context, c *client.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	messages, lost := c.Events(ctx, events.ListOptions{Filters: filters.NewArgs(filters.Arg("type", "container"), filters.Arg("label", "watched"))})
	id, err := started(ctx, c, &container.Config{Cmd: []string{"sleep", "1000"}, Labels: map[string]string{"watched": ""}}, nil)
	if err != nil {
		return err
	}
	if err := errors.Join(c.ContainerPause(ctx, id), c.ContainerUnpause(ctx, id), c.ContainerRename(ctx, id, "renamed"), c.ContainerKill(ctx, id, "KILL")); err != nil {
		return err
	}
	ended, broken := c.ContainerWait(ctx, id, container.WaitConditionNotRunning)
	select {
	case <-ended:
	case err := <-broken:
		return err
	}
	if err := remove(ctx, c, id); err != nil {
		return err
	}
	var got []string
	for {
		select {
		case m := <-messages:
			got = append(got, string(m.Action))
			if m.Action == events.ActionDestroy {
				line := strings.Join(got, " ")
				return want(line == "create start pause unpause rename kill die destroy", "events: %s", line)
			}
		case err := <-lost:
			return fmt.Errorf("after %v: %w", got, err)
		}
	}
}

func execute(ctx context.Context, c *client.Client) error {
	id, err := started(ctx, c, &container.Config{Cmd: []string{"sleep", "1000"}}, nil)
	if err != nil {
		return err
	}
	made, err := c.ContainerExecCreate(ctx, id, container.ExecOptions{Cmd: []string{"sh", "-c", "cat; echo $V >&2; exit 9"}, Env: []string{"V=w"}, AttachStdin: true, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return err
	}
	conn, err := c.ContainerExecAttach(ctx, made.ID, container.ExecAttachOptions{})
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Conn.Write([]byte("in")); err != nil {
		return err
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	var out, bad bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &bad, conn.Reader); err != nil {
		return err
	}
	seen, err := c.ContainerExecInspect(ctx, made.ID)
	if err != nil {
		return err
	}
	quiet, err := c.ContainerExecCreate(ctx, id, container.ExecOptions{Cmd: []string{"touch", "/quiet"}, Detach: true})
	if err != nil {
		return err
	}
	if err := c.ContainerExecStart(ctx, quiet.ID, container.ExecStartOptions{Detach: true}); err != nil {
		return err
	}
	for range 100 {
		if seen, err := c.ContainerExecInspect(ctx, quiet.ID); err != nil {
			return err
		} else if !seen.Running {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	stat, err := c.ContainerStatPath(ctx, id, "/quiet")
	return errors.Join(err,
		want(out.String() == "in" && bad.String() == "w\n" && seen.ExitCode == 9 && !seen.Running, "exec: %q %q %+v", out.String(), bad.String(), seen),
		want(stat.Name == "quiet", "stat: %+v", stat), remove(ctx, c, id))
}

func stats(ctx context.Context, c *client.Client) error {
	id, err := started(ctx, c, &container.Config{Cmd: []string{"sh", "-c", "while :; do :; done"}}, nil)
	if err != nil {
		return err
	}
	r, err := c.ContainerStats(ctx, id, true)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	var first, second container.StatsResponse
	d := json.NewDecoder(r.Body)
	if err := errors.Join(d.Decode(&first), d.Decode(&second)); err != nil {
		return err
	}
	return errors.Join(
		want(second.CPUStats.CPUUsage.TotalUsage > second.PreCPUStats.CPUUsage.TotalUsage && second.PreCPUStats.CPUUsage.TotalUsage == first.CPUStats.CPUUsage.TotalUsage,
			"stats: %+v, %+v", first.CPUStats, second.CPUStats),
		want(second.CPUStats.SystemUsage > second.PreCPUStats.SystemUsage && second.MemoryStats.Usage > 0 && len(second.Networks) == 1, "stats: %+v", second),
		remove(ctx, c, id))
}

// archived is a tar of files.
func archived(files map[string]string) (io.Reader, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o640, Size: int64(len(text))}); err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(text)); err != nil {
			return nil, err
		}
	}
	return &b, w.Close()
}

func images(ctx context.Context, c *client.Client) error {
	in, err := archived(map[string]string{"Dockerfile": "FROM " + box + "\nLABEL a=b\nRUN echo built >/made\nCOPY data /\n", "data": "text"})
	if err != nil {
		return err
	}
	r, err := c.ImageBuild(ctx, in, build.ImageBuildOptions{Tags: []string{"engine-session:1"}, Remove: true, Labels: map[string]string{"c": "d"}})
	if err != nil {
		return err
	}
	defer r.Body.Close()
	var told bytes.Buffer
	var id string
	if err := jsonmessage.DisplayJSONMessagesStream(r.Body, &told, 0, false, func(m jsonmessage.JSONMessage) {
		var result build.Result
		if json.Unmarshal(*m.Aux, &result) == nil {
			id = result.ID
		}
	}); err != nil {
		return fmt.Errorf("%w: %s", err, told.String())
	}
	seen, err := c.ImageInspect(ctx, "engine-session:1")
	if err != nil {
		return err
	}
	history, err := c.ImageHistory(ctx, "engine-session:1")
	if err != nil {
		return err
	}
	if id == "" { // Version 1.25 does not tell it.
		id = seen.ID
	}
	if seen.ID != id || seen.Config.Labels["a"] != "b" || seen.Config.Labels["c"] != "d" || len(history) < 4 {
		return fmt.Errorf("built %s, %+v, %d steps: %s", id, seen, len(history), told.String())
	}
	saved, err := c.ImageSave(ctx, []string{"engine-session:1"})
	if err != nil {
		return err
	}
	defer saved.Close()
	raw, err := io.ReadAll(saved)
	if err != nil {
		return err
	}
	if _, err := c.ImageRemove(ctx, "engine-session:1", image.RemoveOptions{PruneChildren: true}); err != nil {
		return err
	}
	loaded, err := c.ImageLoad(ctx, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	defer loaded.Body.Close()
	if _, err := io.Copy(io.Discard, loaded.Body); err != nil {
		return err
	}
	list, err := c.ImageList(ctx, image.ListOptions{Filters: filters.NewArgs(filters.Arg("reference", "engine-session"))})
	if err != nil {
		return err
	}
	if len(list) != 1 || list[0].ID != id {
		return fmt.Errorf("listed %+v, not %s", list, id)
	}
	_, err = c.ImageRemove(ctx, id, image.RemoveOptions{Force: true})
	return err
}

func files(ctx context.Context, c *client.Client) error {
	made, err := c.ContainerCreate(ctx, &container.Config{Image: box, Cmd: []string{"true"}}, nil, nil, nil, "")
	if err != nil {
		return err
	}
	in, err := archived(map[string]string{"a/b/c": "deep"})
	if err != nil {
		return err
	}
	if err := c.CopyToContainer(ctx, made.ID, "/tmp", in, container.CopyToContainerOptions{CopyUIDGID: true}); err != nil {
		return err
	}
	out, stat, err := c.CopyFromContainer(ctx, made.ID, "/tmp/a/b")
	if err != nil {
		return err
	}
	defer out.Close()
	var names []string
	t := tar.NewReader(out)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		names = append(names, h.Name)
	}
	changed, err := c.ContainerDiff(ctx, made.ID)
	return errors.Join(err, want(strings.Join(names, " ") == "b/ b/c" && stat.Mode.IsDir(), "copied %v, %+v", names, stat),
		want(len(changed) == 4, "changes: %v", changed), remove(ctx, c, made.ID))
}

func around(ctx context.Context, c *client.Client) error {
	ipv6 := false
	net, err := c.NetworkCreate(ctx, "engine-session", network.CreateOptions{
		Driver: "bridge", EnableIPv6: &ipv6, Labels: map[string]string{"of": "engine-session"},
		IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: "10.88.0.0/24", Gateway: "10.88.0.1"}}},
	})
	if err != nil {
		return err
	}
	id, err := started(ctx, c, &container.Config{Cmd: []string{"sleep", "1000"}}, nil)
	if err != nil {
		return err
	}
	if err := c.NetworkConnect(ctx, net.ID, id, &network.EndpointSettings{Aliases: []string{"other"}, IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: "10.88.0.77"}}); err != nil {
		return err
	}
	seen, err := c.NetworkInspect(ctx, "engine-session", network.InspectOptions{Verbose: true})
	if err != nil {
		return err
	}
	vol, err := c.VolumeCreate(ctx, volume.CreateOptions{Name: "engine-session", Labels: map[string]string{"of": "engine-session"}})
	if err != nil {
		return err
	}
	list, err := c.VolumeList(ctx, volume.ListOptions{Filters: filters.NewArgs(filters.Arg("label", "of=engine-session"))})
	if err != nil {
		return err
	}
	if err := errors.Join(
		want(seen.Containers[id].IPv4Address == "10.88.0.77/24", "network: %+v", seen.Containers),
		want(len(list.Volumes) == 1 && vol.Mountpoint != "", "volumes: %+v, %+v", vol, list.Volumes),
		c.NetworkDisconnect(ctx, net.ID, id, true)); err != nil {
		return err
	}
	pruned, err := c.NetworksPrune(ctx, filters.NewArgs(filters.Arg("label", "of=engine-session")))
	if err != nil {
		return err
	}
	emptied, err := c.VolumesPrune(ctx, filters.NewArgs(filters.Arg("label", "of=engine-session"), filters.Arg("all", "true")))
	if err != nil {
		return err
	}
	return errors.Join(want(len(pruned.NetworksDeleted) == 1 && len(emptied.VolumesDeleted) == 1, "pruned %v %v", pruned, emptied), remove(ctx, c, id))
}

func classes(ctx context.Context, c *client.Client) error {
	_, missing := c.ContainerInspect(ctx, "nosuch")
	_, invalid := c.ContainerCreate(ctx, &container.Config{Image: box, Cmd: []string{"true"}}, nil, nil, nil, "a b")
	_, unknown := c.ContainerCreate(ctx, &container.Config{Image: "nosuch"}, nil, nil, nil, "")
	made, err := c.ContainerCreate(ctx, &container.Config{Image: box, Cmd: []string{"true"}}, nil, nil, nil, "taken")
	if err != nil {
		return err
	}
	_, conflict := c.ContainerCreate(ctx, &container.Config{Image: box, Cmd: []string{"true"}}, nil, nil, nil, "taken")
	return errors.Join(
		want(client.IsErrNotFound(missing), "missing: %v", missing), want(errdefs.IsInvalidParameter(invalid), "invalid: %v", invalid),
		want(errdefs.IsNotFound(unknown), "unknown: %v", unknown), want(errdefs.IsConflict(conflict), "conflict: %v", conflict),
		remove(ctx, c, made.ID))
}
