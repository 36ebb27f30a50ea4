package compose

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/kistdev/kist/internal/cli"
	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/compose/screen"
	"github.com/kistdev/kist/internal/fault"
)

// conditionRunning is that of `up --wait`: healthy, or running where there is no health check.
const conditionRunning = "running_or_healthy"

// How often a container that is waited for is looked at: often in the beginning, as most are there at once.
const (
	firstLook = 20 * time.Millisecond
	lastLook  = 250 * time.Millisecond
)

// member is a container that is waited for.
type member struct {
	id, label string
}

// await waits until containers are as a condition says. A failure says why, with the evidence.
func (s *stack) await(ctx context.Context, service, condition string, members []member) error {
	pause := firstLook
	for {
		done := 0
		for _, m := range members {
			ok, err := s.reached(m, service, condition)
			if err != nil {
				return err
			}
			if ok {
				done++
			}
		}
		if done == len(members) {
			return nil
		}
		select {
		case <-ctx.Done():
			return s.tooLate(members[0], service, condition)
		case <-time.After(pause):
			pause = min(pause*3/2, lastLook)
		}
	}
}

// reached looks at one container.
func (s *stack) reached(m member, service, condition string) (bool, error) {
	in, err := s.inspect(m.id)
	if err != nil {
		return false, fmt.Errorf("wait for service %s: %w", service, err)
	}
	s.showHealth(m, in)
	st := in.State
	if st == nil {
		return false, fmt.Errorf("wait for service %s: the daemon does not say how %s is", service, m.label)
	}
	ended := st.Status == container.StateExited || st.Status == container.StateDead
	if condition == types.ServiceConditionCompletedSuccessfully {
		if ended && st.ExitCode != 0 {
			return false, s.because(m, service, in, fmt.Sprintf("%s ended with exit code %d, not with 0", m.label, st.ExitCode))
		}
		return ended, nil
	}
	checked := in.Config != nil && in.Config.Healthcheck != nil && len(in.Config.Healthcheck.Test) > 0 && in.Config.Healthcheck.Test[0] != "NONE"
	switch {
	case ended:
		return false, s.because(m, service, in, fmt.Sprintf("%s ended with exit code %d", m.label, st.ExitCode))
	case condition == types.ServiceConditionStarted:
		return st.Running, nil
	case !checked && st.Health == nil && condition == types.ServiceConditionHealthy:
		return false, &fault.Error{
			Code: "compose-no-healthcheck", What: "service " + service + " can never be healthy", Cause: "neither the service nor its image has a healthcheck",
			Try: "add healthcheck: to the service, or depend on it with condition: service_started", Class: errdefs.ErrInvalidArgument,
		}
	case !checked && st.Health == nil:
		return st.Running && !st.Restarting, nil
	case st.Health == nil || st.Health.Status == container.Starting:
		return false, nil
	case st.Health.Status == container.Unhealthy && len(st.Health.Log) == 0:
		return false, nil // It has ended before its first check, which the next look shows.
	case st.Health.Status == container.Unhealthy:
		return false, s.because(m, service, in, m.label+" is unhealthy")
	}
	return st.Health.Status == container.Healthy, nil
}

// showHealth tells the board how a container is.
func (s *stack) showHealth(m member, in *container.InspectResponse) {
	if in.State == nil || in.State.Health == nil {
		return
	}
	switch in.State.Health.Status {
	case container.Healthy:
		s.board.Set(screen.Row{Kind: "Container", Name: m.label, State: "running", Health: "healthy", Mark: screen.Done})
	case container.Starting:
		s.board.Set(screen.Row{Kind: "Container", Name: m.label, State: "running", Health: "starting"})
	case container.Unhealthy:
		if len(in.State.Health.Log) == 0 {
			return // it is ending
		}
		s.board.Set(screen.Row{Kind: "Container", Name: m.label, State: "running", Health: "unhealthy", Mark: screen.Failed})
	case container.NoHealthcheck:
	}
}

// because is why a container is not as it shall be: what its health check or, where that says nothing, the container printed last.
func (s *stack) because(m member, service string, in *container.InspectResponse, cause string) error {
	if h := in.State.Health; h != nil && h.Status == container.Unhealthy && len(h.Log) > 0 {
		last := h.Log[len(h.Log)-1]
		cause += fmt.Sprintf("; its check ended with %d", last.ExitCode)
		if said := oneLine(last.Output); said != "" {
			cause += ": " + said
		}
	}
	if in.State.Error != "" {
		cause += ": " + in.State.Error
	}
	if why := s.ending(m.id); why != "" {
		cause += "; " + why
	} else if in.State.OOMKilled {
		cause += "; it was killed for want of memory"
	}
	if said := s.lastLines(m.id); said != "" {
		cause += "\n       its log ends with:\n         " + strings.ReplaceAll(said, "\n", "\n         ")
	}
	return &fault.Error{
		Code: "compose-dependency-failed", What: "service " + service + " is not ready", Cause: cause, Try: "kist compose logs " + service,
		Class: errdefs.ErrFailedPrecondition,
	}
}

// ending is why a container ended, as kist's own daemon tells it where the exit code leaves it open.
func (s *stack) ending(id string) string {
	in, err := client.CallJSON[struct {
		State struct {
			KistExit struct{ Reason, Brief string }
		}
	}](s.cl, client.Get(path(id, "/json"), nil))
	if err != nil || in.State.KistExit.Reason == "exited" {
		return ""
	}
	return in.State.KistExit.Brief
}

// tooLate is a wait that was ended.
func (s *stack) tooLate(m member, service, condition string) error {
	in, err := s.inspect(m.id)
	if err != nil {
		return err
	}
	words := map[string]string{types.ServiceConditionHealthy: "healthy", types.ServiceConditionCompletedSuccessfully: "done"}
	word, ok := words[condition]
	if !ok {
		word = "running"
	}
	return s.because(m, service, in, m.label+" is not "+word+" in time")
}

func oneLine(s string) string {
	return cli.Ellipsis(cli.Clean(strings.Join(strings.Fields(s), " ")), 200)
}

// evidence is how many lines of a log a failure shows.
const evidence = 5

// lastLines are the last ones of a container's log.
func (s *stack) lastLines(id string) string {
	resp, err := s.cl.Do(client.Get(path(id, "/logs"), url.Values{"stdout": {"1"}, "stderr": {"1"}, "tail": {fmt.Sprint(evidence)}}))
	if err != nil {
		return "" // It has none, or none that can be read.
	}
	defer resp.Body.Close()
	var b strings.Builder
	_ = copyLog(&b, &b, resp, false) // What came is shown.
	var lines []string
	for l := range strings.Lines(b.String()) {
		if l = strings.TrimRight(cli.Clean(strings.TrimRight(l, "\r\n")), " "); l != "" {
			lines = append(lines, cli.Ellipsis(l, 200))
		}
	}
	return strings.Join(lines[max(len(lines)-evidence, 0):], "\n")
}
