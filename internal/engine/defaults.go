package engine

import (
	"maps"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/spec"
)

// complete returns the host configuration with docker's defaults filled in, as inspect shows it.
func (e *Engine) complete(user *docker.HostConfig) *docker.HostConfig {
	h := docker.HostConfig{}
	if user != nil {
		h = *user
	}
	if h.NetworkMode == "" || h.NetworkMode.IsDefault() {
		h.NetworkMode = network.NetworkBridge
	}
	if h.RestartPolicy.Name == "" {
		h.RestartPolicy.Name = docker.RestartPolicyDisabled
	}
	if h.Privileged && len(h.SecurityOpt) == 0 {
		h.SecurityOpt = []string{"label=disable"}
	}
	if h.PortBindings == nil {
		h.PortBindings = network.PortMap{}
	}
	if h.PidsLimit != nil && *h.PidsLimit <= 0 {
		h.PidsLimit = nil // Docker's words for no limit, and for the kernel's own value below.
	}
	if h.MemorySwappiness != nil && *h.MemorySwappiness == -1 {
		h.MemorySwappiness = nil
	}
	h.LogConfig = e.logDefaults(h.LogConfig)
	spec.Defaults(&h, e.host)
	return &h
}

// logDefaults fills in the daemon's log driver; the daemon's options apply to its own driver only.
func (e *Engine) logDefaults(l docker.LogConfig) docker.LogConfig {
	ours := e.cfg.LogDriver
	if ours == "" {
		ours = "json-file"
	}
	if l.Type == "" {
		l.Type = ours
	}
	options := map[string]string{}
	if l.Type == ours {
		maps.Copy(options, e.cfg.LogOpts)
	}
	maps.Copy(options, l.Config)
	l.Config = options
	return l
}

// hostnameOf is the name a container gets when none was asked for.
func (e *Engine) hostnameOf(id string, c *docker.Config, h *docker.HostConfig) string {
	switch {
	case c.Hostname != "":
		return c.Hostname
	case h.NetworkMode.IsHost(), h.UTSMode.IsHost():
		return e.host.Hostname
	case h.NetworkMode.IsContainer():
		return ""
	}
	return id[:12]
}
