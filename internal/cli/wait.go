package cli

import (
	"errors"
	"net/url"

	"github.com/moby/moby/api/types/container"

	"github.com/kistdev/kist/internal/client"
)

// waiting is a wait that the daemon has begun.
type waiting struct {
	resp *client.Response
}

// startWait returns when the daemon watches the container; condition is not-running when empty.
func startWait(cl *client.Client, name, condition string) (*waiting, error) {
	q := url.Values{}
	if condition != "" {
		q.Set("condition", condition)
	}
	resp, err := cl.Do(client.Post(containerPath(name, "/wait"), q))
	if err != nil {
		return nil, err
	}
	return &waiting{resp}, nil
}

// result returns the exit code when there is one.
func (w *waiting) result() (int, error) {
	r, err := client.DecodeJSON[container.WaitResponse](w.resp)
	if err != nil {
		return exitUsage, err
	}
	if r.Error != nil && r.Error.Message != "" {
		return exitUsage, errors.New(r.Error.Message)
	}
	return int(r.StatusCode), nil
}
