package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// chore is one kind of thing that is done.
type chore struct {
	name   string
	perDay int
	do     func(ctx context.Context) error
}

// chores are an estimate of a day of a machine that runs the jobs of a team of thirty: five hundred jobs, each with a build, a
// project of two services that is brought up and taken down, five one-off containers, ten execs and some logs; and beside them
// a monitor that lists every ten seconds, measures every container each minute, and follows events and logs.
func (s *Soak) chores() []chore {
	all := []chore{
		{"ping", 8640, s.ping},
		{"list containers, images", 8640, s.list},
		{"inspect", 17280, s.inspect},
		{"statistics", 14400, s.stats},
		{"statistics, a stream dropped", 500, s.statsDropped},
		{"info and version", 2880, s.info},
		{"disk usage", 96, s.diskUsage},
		{"events for a while, dropped", 288, s.events},
		{"logs", 5000, s.logs},
		{"logs followed, dropped", 1000, s.logsDropped},
		{"run to the end", 2500, s.run},
		{"run with input and a terminal", 250, s.terminal},
		{"exec", 5000, s.exec},
		{"exec, detached", 500, s.execDetached},
		{"exec, dropped", 250, s.execDropped},
		{"attach, dropped", 250, s.attachDropped},
		{"wait, dropped", 100, s.waitDropped},
		{"files in and out", 1000, s.files},
		{"build", 500, s.build},
		{"a build that fails", 50, s.buildFails},
		{"a project up and down", 500, s.project},
		{"save and load", 50, s.saveLoad},
		{"commit", 50, s.commit},
		{"a container that cannot start", 100, s.broken},
		{"bad requests", 500, s.bad},
		{"prune", 24, s.pruneOld},
	}
	if s.registry != "" {
		all = append(all, chore{"pull", 250, s.pull})
	}
	return all
}

func resident() string { return fmt.Sprintf("resident-%d", rand.IntN(residents)) }

// name is one that nobody else has.
func (s *Soak) name(kind string) string { return fmt.Sprintf("%s-%d", kind, s.serial.Add(1)) }

// only drops what a call of the client answers besides its error.
func only[T any](_ T, err error) error { return err }

func (s *Soak) ping(ctx context.Context) error {
	return only(s.docker.Ping(ctx, client.PingOptions{}))
}

func (s *Soak) list(ctx context.Context) error {
	l, err := s.docker.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err == nil && len(l.Items) < residents {
		err = fmt.Errorf("%d containers listed", len(l.Items))
	}
	return errors.Join(err, only(s.docker.ImageList(ctx, client.ImageListOptions{})))
}

func (s *Soak) inspect(ctx context.Context) error {
	c, err := s.docker.ContainerInspect(ctx, resident(), client.ContainerInspectOptions{})
	if err == nil && (!c.Container.State.Running || c.Container.State.Health == nil) {
		err = fmt.Errorf("a resident has ended: %+v", c.Container.State)
	}
	return err
}

func (s *Soak) info(ctx context.Context) error {
	return errors.Join(only(s.docker.Info(ctx, client.InfoOptions{})), only(s.docker.ServerVersion(ctx, client.ServerVersionOptions{})))
}

func (s *Soak) diskUsage(ctx context.Context) error {
	return only(s.docker.DiskUsage(ctx, client.DiskUsageOptions{Containers: true, Images: true, Volumes: true, BuildCache: true, Verbose: true}))
}

func (s *Soak) stats(ctx context.Context) error {
	r, err := s.docker.ContainerStats(ctx, resident(), client.ContainerStatsOptions{})
	if err != nil {
		return err
	}
	return errors.Join(only(io.Copy(io.Discard, r.Body)), r.Body.Close())
}

// statsDropped goes away after the first sample of a stream.
func (s *Soak) statsDropped(ctx context.Context) error {
	r, err := s.docker.ContainerStats(ctx, resident(), client.ContainerStatsOptions{Stream: true})
	if err != nil {
		return err
	}
	_, err = r.Body.Read(make([]byte, 1))
	return errors.Join(err, r.Body.Close())
}

func (s *Soak) events(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(50+rand.IntN(200))*time.Millisecond)
	defer cancel()
	feed := s.docker.Events(ctx, client.EventsListOptions{})
	for {
		select {
		case <-feed.Messages:
		case err := <-feed.Err:
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

func (s *Soak) logs(ctx context.Context) error {
	r, err := s.docker.ContainerLogs(ctx, resident(), client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: "20"})
	if err != nil {
		return err
	}
	return errors.Join(only(stdcopy.StdCopy(io.Discard, io.Discard, r)), r.Close())
}

func (s *Soak) logsDropped(ctx context.Context) error {
	r, err := s.docker.ContainerLogs(ctx, resident(), client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Follow: true, Tail: "1"})
	if err != nil {
		return err
	}
	time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
	return r.Close()
}

func (s *Soak) bad(ctx context.Context) error {
	_, missing := s.docker.ContainerInspect(ctx, "nosuch", client.ContainerInspectOptions{})
	_, invalid := s.docker.ContainerCreate(ctx, client.ContainerCreateOptions{Name: "a b", Config: &container.Config{Image: Box, Cmd: []string{"true"}}})
	_, taken := s.docker.ContainerCreate(ctx, client.ContainerCreateOptions{Name: resident(), Config: &container.Config{Image: Box, Cmd: []string{"true"}}})
	if !errdefs.IsNotFound(missing) || !errdefs.IsInvalidArgument(invalid) || !errdefs.IsConflict(taken) {
		return fmt.Errorf("not as bad as wanted: %w, %w, %w", missing, invalid, taken)
	}
	return nil
}

func (s *Soak) pull(ctx context.Context) error {
	ref := s.registry + "/box:1"
	_, err := s.docker.ImageRemove(ctx, ref, client.ImageRemoveOptions{})
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) { // The other worker has it.
		return err
	}
	r, err := s.docker.ImagePull(ctx, ref, client.ImagePullOptions{})
	if err != nil {
		return err
	}
	return errors.Join(r.Wait(ctx), r.Close())
}

func (s *Soak) saveLoad(ctx context.Context) error {
	saved, err := s.docker.ImageSave(ctx, []string{Box})
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(saved)
	if err := errors.Join(err, saved.Close()); err != nil {
		return err
	}
	loaded, err := s.docker.ImageLoad(ctx, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	return errors.Join(only(io.Copy(io.Discard, loaded)), loaded.Close())
}

// pruneOld removes what is old, of which there is nothing, and what builds have left.
func (s *Soak) pruneOld(ctx context.Context) error {
	old := make(client.Filters).Add("until", "1h")
	return errors.Join(
		only(s.docker.ContainerPrune(ctx, client.ContainerPruneOptions{Filters: old})),
		only(s.docker.NetworkPrune(ctx, client.NetworkPruneOptions{Filters: old})),
		only(s.docker.VolumePrune(ctx, client.VolumePruneOptions{Filters: make(client.Filters).Add("label", "nobody.has.this")})),
		only(s.docker.ImagePrune(ctx, client.ImagePruneOptions{Filters: old})),
		only(s.docker.BuildCachePrune(ctx, client.BuildCachePruneOptions{All: true})))
}
