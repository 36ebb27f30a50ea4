package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// merge returns what the user asked for, completed by what the image says, by docker's rules. Its arguments stay as they
// are.
func merge(user *docker.Config, image *dockerspec.DockerOCIImageConfig) (*docker.Config, error) {
	c := *user
	if c.User == "" {
		c.User = image.User
	}
	if c.WorkingDir == "" {
		c.WorkingDir = image.WorkingDir
	}
	if c.StopSignal == "" {
		c.StopSignal = image.StopSignal
	}
	if len(c.Shell) == 0 {
		c.Shell = image.Shell
	}
	mergeCommand(&c, image)
	c.Env = mergeEnv(c.Env, image.Env)
	c.Labels = mergeLabels(c.Labels, image.Labels)
	c.Healthcheck = mergeHealth(c.Healthcheck, image.Healthcheck)
	if len(image.Volumes) > 0 {
		volumes := maps.Clone(image.Volumes)
		maps.Copy(volumes, c.Volumes)
		c.Volumes = volumes
	}
	ports, err := mergePorts(c.ExposedPorts, image.ExposedPorts)
	c.ExposedPorts = ports
	return &c, err
}

// mergeCommand: an entrypoint of the user's discards the image's command; an empty one ([""]) discards both.
func mergeCommand(c *docker.Config, image *dockerspec.DockerOCIImageConfig) {
	if len(c.Entrypoint) == 0 {
		if len(c.Cmd) == 0 {
			c.Cmd = image.Cmd
		}
		if c.Entrypoint == nil {
			c.Entrypoint = image.Entrypoint
		}
	}
	if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" {
		c.Entrypoint = nil
	}
}

func mergeEnv(user, image []string) []string {
	if len(user) == 0 {
		return image
	}
	all := slices.Clip(user)
	for _, kv := range image {
		key, _, _ := strings.Cut(kv, "=")
		set := slices.ContainsFunc(user, func(u string) bool {
			k, _, _ := strings.Cut(u, "=")
			return k == key
		})
		if !set {
			all = append(all, kv)
		}
	}
	return all
}

func mergeLabels(user, image map[string]string) map[string]string {
	if len(image) == 0 {
		if user == nil {
			return map[string]string{}
		}
		return user
	}
	all := maps.Clone(image)
	maps.Copy(all, user)
	return all
}

func mergeHealth(user, image *docker.HealthConfig) *docker.HealthConfig {
	if user == nil || image == nil {
		if user == nil {
			return image
		}
		return user
	}
	h := *user
	if len(h.Test) == 0 {
		h.Test = image.Test
	}
	if h.Interval == 0 {
		h.Interval = image.Interval
	}
	if h.Timeout == 0 {
		h.Timeout = image.Timeout
	}
	if h.StartPeriod == 0 {
		h.StartPeriod = image.StartPeriod
	}
	if h.StartInterval == 0 {
		h.StartInterval = image.StartInterval
	}
	if h.Retries == 0 {
		h.Retries = image.Retries
	}
	return &h
}

func mergePorts(user network.PortSet, image map[string]struct{}) (network.PortSet, error) {
	if len(image) == 0 {
		return user, nil
	}
	all := make(network.PortSet, len(user)+len(image))
	maps.Copy(all, user)
	for text := range image {
		ports, err := network.ParsePortRange(text)
		if err != nil {
			return nil, fmt.Errorf("image exposes %q: %w: %w", text, err, errdefs.ErrInvalidArgument)
		}
		for p := range ports.All() {
			all[p] = struct{}{}
		}
	}
	return all, nil
}
