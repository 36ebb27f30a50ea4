package image

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// healthcheck reads "NONE" or "[--interval=... ...] CMD command".
func (ch *changer) healthcheck(rest string) error {
	h := &dockerspec.HealthcheckConfig{}
	for strings.HasPrefix(rest, "--") {
		flag, after, _ := strings.Cut(rest, " ")
		if err := healthFlag(h, strings.TrimPrefix(flag, "--")); err != nil {
			return err
		}
		rest = strings.TrimSpace(after)
	}
	kind, command, _ := strings.Cut(rest, " ")
	command = strings.TrimSpace(command)
	switch strings.ToUpper(kind) {
	case "NONE":
		if command != "" || h.Interval+h.Timeout+h.StartPeriod+h.StartInterval != 0 || h.Retries != 0 {
			return fmt.Errorf("HEALTHCHECK NONE takes no arguments")
		}
		h.Test = []string{"NONE"}
	case "CMD":
		list, ok := jsonList(command)
		switch {
		case command == "" || ok && len(list) == 0:
			return fmt.Errorf("missing command after HEALTHCHECK CMD")
		case ok:
			h.Test = append([]string{"CMD"}, list...)
		default:
			h.Test = []string{"CMD-SHELL", command}
		}
	default:
		return fmt.Errorf("unknown type %q in HEALTHCHECK (try CMD)", kind)
	}
	ch.c.Healthcheck = h
	return nil
}

func healthFlag(h *dockerspec.HealthcheckConfig, flag string) error {
	name, value, ok := strings.Cut(flag, "=")
	if !ok {
		return fmt.Errorf("missing a value on flag: %s", name)
	}
	if name == "retries" {
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			return fmt.Errorf("--retries must be a number that is not negative: %q", value)
		}
		h.Retries = n
		return nil
	}
	into := map[string]*time.Duration{
		"interval": &h.Interval, "timeout": &h.Timeout, "start-period": &h.StartPeriod, "start-interval": &h.StartInterval,
	}[name]
	if into == nil {
		return fmt.Errorf("unknown flag: %s", name)
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		return err
	}
	if d != 0 && d < time.Millisecond {
		return fmt.Errorf("--%s cannot be less than 1ms", name)
	}
	*into = d
	return nil
}
