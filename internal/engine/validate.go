package engine

import (
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	docker "github.com/moby/moby/api/types/container"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/logfile"
	"github.com/kistdev/kist/internal/network"
)

// invalid is an error of the request, in docker's words where docker has some.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument)
}

// asInvalid is the error of an unknown container where a request names one: the request is wrong, the container that it is about
// is there.
func asInvalid(err error) error {
	if f, ok := fault.As(err); ok {
		known := *f
		known.Class = errdefs.ErrInvalidArgument
		return &known
	}
	return err
}

// validate checks what the user asked for, the image's part included, as far as spec.Validate does not.
func validate(c *docker.Config, h *docker.HostConfig) error {
	for _, check := range []func() error{
		func() error { return validateConfig(c) },
		func() error { return validateHealth(c.Healthcheck) },
		func() error { return validateModes(c, h) },
		func() error { return validateHost(h) },
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func validateConfig(c *docker.Config) error {
	if len(c.Entrypoint)+len(c.Cmd) == 0 {
		return invalid("no command specified")
	}
	if c.StopSignal != "" {
		if _, err := parseSignal(c.StopSignal); err != nil {
			return err
		}
	}
	return nil
}

func validateHealth(h *docker.HealthConfig) error {
	if h == nil {
		return nil
	}
	for _, t := range []struct {
		name string
		d    time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if t.d != 0 && t.d < docker.MinimumDuration {
			return invalid("%s in Healthcheck cannot be less than %s", t.name, docker.MinimumDuration)
		}
	}
	if h.Retries < 0 {
		return invalid("Retries in Healthcheck cannot be negative")
	}
	if len(h.Test) > 0 {
		switch h.Test[0] {
		case "NONE", "CMD", "CMD-SHELL":
		default:
			return invalid("unknown type %q in Healthcheck (want NONE, CMD or CMD-SHELL)", h.Test[0])
		}
	}
	return nil
}

func validateModes(c *docker.Config, h *docker.HostConfig) error {
	if !h.NetworkMode.IsContainer() {
		return nil
	}
	switch {
	case h.NetworkMode.ConnectedContainer() == "":
		return invalid("Invalid network mode: invalid container format container:<name|id>")
	case c.Hostname != "":
		return invalid("conflicting options: hostname and the network mode")
	case len(h.PortBindings) > 0 || h.PublishAllPorts:
		return invalid("conflicting options: port publishing and the container type network mode")
	case len(h.DNS) > 0:
		return invalid("conflicting options: dns and the network mode")
	case len(h.ExtraHosts) > 0:
		return invalid("conflicting options: custom host-to-IP mapping and the network mode")
	case len(h.Links) > 0:
		return invalid("conflicting options: container type network can't be used with links. This would result in undefined behavior")
	}
	return nil
}

func validateHost(h *docker.HostConfig) error {
	if err := docker.ValidateRestartPolicy(h.RestartPolicy); err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if h.AutoRemove && !h.RestartPolicy.IsNone() {
		return invalid("can't create 'AutoRemove' container with restart policy")
	}
	for _, entry := range h.ExtraHosts {
		if name, addr, ok := cutHost(entry); !ok || name == "" || addr == "" {
			return invalid("bad format for add-host: %q", entry)
		}
	}
	if err := network.CheckPorts(h.PortBindings); err != nil {
		return err
	}
	switch {
	case len(h.StorageOpt) > 0:
		return invalid("--storage-opt is not supported: writable layers have no size limit here")
	}
	_, err := logfile.ParseConfig(h.LogConfig.Type, "/log", h.LogConfig.Config)
	return err
}

// cutHost splits --add-host's name:address; an address of IP version 6 has colons of its own. An equals sign may stand
// for the first colon.
func cutHost(entry string) (name, addr string, ok bool) {
	at := strings.IndexAny(entry, ":=")
	if at < 0 {
		return "", "", false
	}
	return entry[:at], strings.Trim(entry[at+1:], "[]"), true
}
