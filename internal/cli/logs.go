package cli

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

type logsFlags struct {
	follow, timestamps, details bool
	since, until, tail          string
}

func (a *app) logsCommand() *cobra.Command {
	var f logsFlags
	c := &cobra.Command{Use: "logs [OPTIONS] CONTAINER", Args: exactly(1)}
	c.Flags().BoolVar(&f.details, "details", false, "Show the log driver's further fields")
	c.Flags().BoolVarP(&f.follow, "follow", "f", false, "Go on with what is printed from now on")
	c.Flags().StringVar(&f.since, "since", "", "Show what was printed after a time, or in the last 42m")
	c.Flags().StringVarP(&f.tail, "tail", "n", "all", "Number of lines to show from the end")
	c.Flags().BoolVarP(&f.timestamps, "timestamps", "t", false, "Show the time of each line")
	c.Flags().StringVar(&f.until, "until", "", "Show what was printed before a time, or 42m ago")
	c.RunE = func(_ *cobra.Command, args []string) error { return a.logs(&f, args[0]) }
	return c
}

func (a *app) logs(f *logsFlags, name string) error {
	q := url.Values{"stdout": {"1"}, "stderr": {"1"}, "tail": {f.tail}}
	if err := Between(q, f.since, f.until); err != nil {
		return err
	}
	for k, set := range map[string]bool{"follow": f.follow, "timestamps": f.timestamps, "details": f.details} {
		if set {
			q.Set(k, "1")
		}
	}
	cl, err := a.client()
	if err != nil {
		return err
	}
	resp, err := cl.Do(client.Get(containerPath(name, "/logs"), q))
	if err != nil {
		return a.hintContainer(cl, name, err)
	}
	defer resp.Body.Close()
	switch resp.Header["content-type"] {
	case "application/vnd.docker.multiplexed-stream":
		return ended(client.Demux(a.out, a.err, resp.Body))
	case "application/vnd.docker.raw-stream":
		_, err = io.Copy(a.out, resp.Body)
		return ended(err)
	}
	// An old daemon does not say in what form the log comes: with a terminal it is raw.
	info, err := client.CallJSON[container.InspectResponse](cl, client.Get(containerPath(name, "/json"), nil))
	if err != nil {
		return err
	}
	if info.Config != nil && info.Config.Tty {
		_, err = io.Copy(a.out, resp.Body)
		return ended(err)
	}
	return ended(client.Demux(a.out, a.err, resp.Body))
}

// ended makes the loss of the daemon in the middle of a stream readable.
func ended(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return &hintedError{err: errors.New("the daemon ended the stream"), try: "run the command again"}
	}
	return err
}

// Between puts the times between which something is to be shown into a query, each as a time or an age; an empty one is no bound.
func Between(q url.Values, since, until string) error {
	now := time.Now()
	for k, v := range map[string]string{"since": since, "until": until} {
		if v == "" {
			continue
		}
		t, err := timestamp(v, now)
		if err != nil {
			return fmt.Errorf("invalid value for %q: %w", k, err)
		}
		q.Set(k, t)
	}
	return nil
}

// timestamp reads a point in time as docker does: a date and time in many lengths, seconds since 1970, or how long ago. It
// returns seconds with nine places.
func timestamp(s string, now time.Time) (string, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return unixStamp(now.Add(-d)), nil
	}
	layouts := []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02Z07:00", "2006-01-02", "2006-01-02T15:04Z07:00", "2006-01-02T15Z07:00"}
	for _, l := range layouts {
		if t, err := time.ParseInLocation(l, s, now.Location()); err == nil {
			return unixStamp(t), nil
		}
	}
	sec, frac, _ := strings.Cut(s, ".")
	if strings.Trim(sec, "0123456789") != "" || sec == "" || strings.Trim(frac, "0123456789") != "" {
		return "", fmt.Errorf("%q is not a time: use 2006-01-02T15:04:05, seconds since 1970, or an age such as 10m", s)
	}
	return s, nil
}

func unixStamp(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }
