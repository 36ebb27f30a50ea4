package engine

import (
	"context"
	"os"
	"runtime"
	"time"

	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"
)

// Info is docker info.
func (e *Engine) Info(ctx context.Context) (*system.Info, error) {
	images, err := e.cfg.Images.List(ctx, false, false, nil)
	if err != nil {
		return nil, err
	}
	i := &system.Info{
		ID: e.identity, Images: len(images), Driver: "overlay2",
		// By the type clients know that images are OCI's: buildx and compose then let an image with attestations be loaded.
		DriverStatus: [][2]string{{"Supports d_type", "true"}, {"Native Overlay Diff", "true"}, {"driver-type", "io.containerd.snapshotter.v1"}},
		Plugins: system.PluginsInfo{
			Volume: []string{"local"}, Network: []string{"bridge", "host", "ipvlan", "macvlan", "null"},
			Log: []string{"json-file", "local", "none"},
		},
		NFd: descriptors(), NGoroutines: runtime.NumGoroutine(),
		SystemTime: time.Now().Format(time.RFC3339Nano), LoggingDriver: e.logDriver(),
		IndexServerAddress: "https://index.docker.io/v1/", RegistryConfig: e.registries(),
		DockerRootDir: e.cfg.DataRoot,
		HTTPProxy:     os.Getenv("HTTP_PROXY"), HTTPSProxy: os.Getenv("HTTPS_PROXY"), NoProxy: os.Getenv("NO_PROXY"),
		Labels: e.cfg.Labels, ServerVersion: e.cfg.Version,
		Runtimes:       map[string]system.RuntimeWithStatus{"kist": {}, "runc": {}},
		DefaultRuntime: "kist", LiveRestoreEnabled: true, InitBinary: e.cfg.InitPath,
		Swarm:           swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive},
		Warnings:        []string{},
		FirewallBackend: &system.FirewallInfo{Driver: "nftables"},
	}
	e.facts.Fill(i)
	i.Warnings = append(i.Warnings, e.networks.Warnings()...)
	e.fillDevices(i)
	for _, c := range e.index.all() {
		i.Containers++
		switch _, st := c.look(); st.Phase {
		case running, restarting:
			i.ContainersRunning++
		case paused:
			i.ContainersPaused++
		default:
			i.ContainersStopped++
		}
	}
	return i, nil
}

func (e *Engine) logDriver() string {
	if e.cfg.LogDriver == "" {
		return "json-file"
	}
	return e.cfg.LogDriver
}

func (e *Engine) registries() *registry.ServiceConfig {
	c := &registry.ServiceConfig{
		IndexConfigs: map[string]*registry.IndexInfo{
			"docker.io": {Name: "docker.io", Mirrors: append([]string{}, e.cfg.Mirrors...), Secure: true, Official: true},
		},
		Mirrors: append([]string{}, e.cfg.Mirrors...),
	}
	for _, name := range e.cfg.Insecure {
		c.IndexConfigs[name] = &registry.IndexInfo{Name: name, Mirrors: []string{}}
	}
	return c
}

// descriptors counts the daemon's open files.
func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(entries)
}
