package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// build is a build of which one file has changed.
func (s *Soak) build(ctx context.Context) error {
	tag := s.name("soak/built")
	told, err := s.built(ctx, tag, "FROM "+Box+"\nRUN echo once >/once\nCOPY data /data\nRUN cat /data >/copy\n", tag)
	if err != nil {
		return err
	}
	if !strings.Contains(told, "Successfully tagged") {
		return fmt.Errorf("the build said %s", told)
	}
	return only(s.docker.ImageRemove(ctx, tag, client.ImageRemoveOptions{PruneChildren: true}))
}

func (s *Soak) buildFails(ctx context.Context) error {
	told, err := s.built(ctx, "soak/failed", "FROM "+Box+"\nCOPY data /data\nRUN exit 9\n", s.name("data"))
	if err == nil && !strings.Contains(told, "returned a non-zero code: 9") {
		err = fmt.Errorf("the build said %s", told)
	}
	return err
}

func (s *Soak) built(ctx context.Context, tag, dockerfile, data string) (string, error) {
	in, err := archive(map[string]string{"Dockerfile": dockerfile, "data": data})
	if err != nil {
		return "", err
	}
	r, err := s.docker.ImageBuild(ctx, in, client.ImageBuildOptions{Tags: []string{tag}, Remove: true})
	if err != nil {
		return "", err
	}
	told, err := io.ReadAll(r.Body)
	return string(told), errors.Join(err, r.Body.Close())
}

// project is a network, a volume and two services, one of which waits for the other's health, and all that is taken down.
func (s *Soak) project(ctx context.Context) error {
	name := s.name("project")
	labels := map[string]string{"com.docker.compose.project": name}
	if _, err := s.docker.NetworkCreate(ctx, name, client.NetworkCreateOptions{Driver: "bridge", Labels: labels}); err != nil {
		return err
	}
	if _, err := s.docker.VolumeCreate(ctx, client.VolumeCreateOptions{Name: name, Labels: labels}); err != nil {
		return err
	}
	ends := &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{name: {Aliases: []string{"store"}}}}
	_, err := s.docker.ContainerCreate(ctx, client.ContainerCreateOptions{Name: name + "-store-1", NetworkingConfig: ends, Config: &container.Config{
		Image: Box, Cmd: []string{"sh", "-c", "echo up >/data/up; exec httpd -f -p 80 -h /data"}, Labels: labels,
		Healthcheck: &container.HealthConfig{Test: []string{"CMD", "wget", "-q", "-O-", "http://127.0.0.1/up"}, Interval: 50 * time.Millisecond, Retries: 100},
	}, HostConfig: &container.HostConfig{Binds: []string{name + ":/data"}, NetworkMode: container.NetworkMode(name)}})
	if err != nil {
		return err
	}
	if err := errors.Join(s.start(ctx, name+"-store-1"), s.healthy(ctx, name+"-store-1")); err != nil {
		return err
	}
	_, err = s.docker.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name: name + "-web-1", Config: &container.Config{Image: Box, Cmd: []string{"wget", "-q", "-O-", "http://store/up"}, Labels: labels},
		HostConfig: &container.HostConfig{NetworkMode: container.NetworkMode(name), PortBindings: network.PortMap{network.MustParsePort("80/tcp"): {{}}}},
	})
	if err != nil {
		return err
	}
	ended := s.wait(ctx, name+"-web-1", container.WaitConditionNextExit, 0)
	if err := errors.Join(s.start(ctx, name+"-web-1"), ended()); err != nil {
		return err
	}
	now := 0
	return errors.Join(only(s.docker.ContainerStop(ctx, name+"-store-1", client.ContainerStopOptions{Timeout: &now})),
		s.remove(ctx, name+"-web-1"), s.remove(ctx, name+"-store-1"),
		only(s.docker.NetworkRemove(ctx, name, client.NetworkRemoveOptions{})), only(s.docker.VolumeRemove(ctx, name, client.VolumeRemoveOptions{})))
}

func (s *Soak) healthy(ctx context.Context, name string) error {
	for {
		c, err := s.docker.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
		if err != nil {
			return err
		}
		if c.Container.State.Health.Status == container.Healthy {
			return nil
		}
		if !c.Container.State.Running {
			return fmt.Errorf("%s has ended", name)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
