package engine

import (
	"context"

	docker "github.com/moby/moby/api/types/container"
)

// Wait returns a channel that delivers one response when the condition holds, or is closed when ctx ends. What happens
// after Wait has returned is not missed. That a container is removed can also be waited for when it was, by its full id.
func (e *Engine) Wait(ctx context.Context, name string, condition docker.WaitCondition) (<-chan docker.WaitResponse, error) {
	c, err := e.index.find(name)
	if code, ok := e.departed.code(name); ok && err != nil && condition == docker.WaitConditionRemoved {
		answer := make(chan docker.WaitResponse, 1)
		answer <- docker.WaitResponse{StatusCode: int64(code)}
		return answer, nil
	}
	if err != nil {
		return nil, err
	}
	over, gone := c.signals()
	_, st := c.look()
	answer := make(chan docker.WaitResponse, 1)
	var end *signal
	switch condition {
	case docker.WaitConditionNotRunning, "":
		if !st.Phase.alive() && st.Phase != restarting {
			answer <- docker.WaitResponse{StatusCode: int64(st.ExitCode)}
			return answer, nil
		}
		end = over
	case docker.WaitConditionNextExit:
		end = over
	case docker.WaitConditionRemoved:
		end = gone
	default:
		return nil, invalid("invalid condition: %q", condition)
	}
	go func() {
		defer close(answer)
		select {
		case <-end.done:
		case <-gone.done: // A container that is removed has no next exit.
			select {
			case <-end.done:
			default:
				end = gone
			}
		case <-ctx.Done():
			return
		}
		answer <- docker.WaitResponse{StatusCode: int64(end.code)}
	}()
	return answer, nil
}
