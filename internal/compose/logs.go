package compose

import (
	"errors"
	"io"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/cli"
	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/compose/screen"
)

type logsFlags struct {
	follow, timestamps, noColour, noPrefix bool
	since, until, tail                     string
	index                                  int
}

func (s *stack) logsCommand() *cobra.Command {
	var f logsFlags
	c := &cobra.Command{Use: "logs [OPTIONS] [SERVICE...]", Short: "Show what containers printed"}
	fs := c.Flags()
	fs.BoolVarP(&f.follow, "follow", "f", false, "Go on with what is printed from now on")
	fs.IntVar(&f.index, "index", 0, "Only the container of this number")
	fs.BoolVar(&f.noColour, "no-color", false, "Without colours")
	fs.BoolVar(&f.noPrefix, "no-log-prefix", false, "Without the containers' names")
	fs.StringVar(&f.since, "since", "", "What was printed after a time, or in the last 42m")
	fs.StringVarP(&f.tail, "tail", "n", "all", "Number of lines from the end of each container's")
	fs.BoolVarP(&f.timestamps, "timestamps", "t", false, "With the time of each line")
	fs.StringVar(&f.until, "until", "", "What was printed before a time, or 42m ago")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if err := s.openNamed(args...); err != nil {
			return err
		}
		return s.logs(&f, args)
	}
	return c
}

func (s *stack) logs(f *logsFlags, services []string) error {
	all, err := s.containers()
	if err != nil {
		return err
	}
	own := all.which(func(c *found) bool { return !c.oneOff() || f.index == 0 && len(services) > 0 })
	if err := s.known(all, services); err != nil {
		return err
	}
	own = own.of(services...).which(func(c *found) bool { return f.index == 0 || c.number() == f.index })
	q := url.Values{"stdout": {"1"}, "stderr": {"1"}, "tail": {f.tail}}
	if err := cli.Between(q, f.since, f.until); err != nil {
		return err
	}
	for key, set := range map[string]bool{"follow": f.follow, "timestamps": f.timestamps} {
		if set {
			q.Set(key, "1")
		}
	}
	p := &screen.Printer{
		Out: os.Stdout, Err: os.Stderr, Coloured: s.tool.Coloured() && !f.noColour && s.ansi != "never", Bare: f.noPrefix, Clean: s.cleaner(),
	}
	sources := make([]*screen.Source, len(own))
	for i, c := range own {
		sources[i] = p.Source(c.short())
	}
	var wg sync.WaitGroup
	errs := make([]error, len(own))
	for i, c := range own {
		one := func() { errs[i] = s.logsOf(c, q, sources[i]) }
		if f.follow {
			wg.Go(one)
		} else {
			one()
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// logsOf shows one container's log; with follow, across its restarts.
func (s *stack) logsOf(c *found, q url.Values, src *screen.Source) error {
	before := time.Time{}
	if q.Get("follow") != "" {
		in, err := s.inspect(c.ID)
		if err != nil {
			return err
		}
		before = started(in)
	}
	resp, err := s.cl.Do(client.Get(path(c.ID, "/logs"), q))
	if err != nil {
		return err
	}
	err = copyLog(src.Stdout(), src.Stderr(), resp, false)
	src.Flush()
	if err = errors.Join(err, resp.Body.Close()); err != nil || q.Get("follow") == "" {
		return err
	}
	in, err := s.settled(c.ID)
	if err != nil || !in.State.Running && !in.State.Restarting {
		return nil //nolint:nilerr // It has gone: there is no more to follow.
	}
	since := time.Time{}
	if started(in).After(before) {
		since = output(in)
	}
	s.followContainer(c.ID, since, src, true, q.Get("timestamps") != "")
	return nil
}

// copyLog copies a log to its two destinations. Old daemons do not say in what form it comes: tty says it then.
func copyLog(out, err io.Writer, resp *client.Response, tty bool) error {
	switch resp.Header["content-type"] {
	case "application/vnd.docker.multiplexed-stream":
		tty = false
	case "application/vnd.docker.raw-stream":
		tty = true
	}
	if tty {
		_, e := io.Copy(out, resp.Body)
		return e
	}
	return client.Demux(out, err, resp.Body)
}

// followContainer shows a container's output from a time on, from one start of it to the next, until it has ended. It returns its
// exit code; ok is false when the container has gone or the daemon does not answer.
func (s *stack) followContainer(id string, since time.Time, src *screen.Source, show, stamps bool) (code int, ok bool) {
	last := since
	if last.IsZero() {
		last = time.Now()
	}
	for {
		begun := time.Now()
		if show {
			s.followOnce(id, since, src, stamps)
		} else if !s.untilEnd(id) {
			return 0, false
		}
		in, err := s.settled(id)
		if err != nil {
			return 0, false
		}
		if !in.State.Running && !in.State.Restarting {
			return in.State.ExitCode, true
		}
		if gone := time.Since(begun); gone < 100*time.Millisecond {
			time.Sleep(100*time.Millisecond - gone)
		}
		// Of its next start everything is shown, of one that was seen already only what comes.
		since = time.Time{}
		if t := started(in); t.After(last) {
			since, last = output(in), t
		}
	}
}

// settled is a container's state, once it says that it has ended or goes on: the end of its output is told a moment before.
func (s *stack) settled(id string) (*container.InspectResponse, error) {
	for range 20 {
		in, err := s.inspect(id)
		if err != nil || in.State == nil {
			return in, errors.Join(err, errIfNil(in))
		}
		if !in.State.Running {
			return in, nil
		}
		time.Sleep(25 * time.Millisecond)
	}
	return s.inspect(id)
}

// started is when a container was last started; the zero time if that is not known.
func started(in *container.InspectResponse) time.Time {
	if in == nil || in.State == nil {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, in.State.StartedAt)
	if err != nil {
		return time.Time{}
	}
	return t
}

// everything is a time before all logs.
var everything = time.Unix(1, 0)

// output is from when on a container's log is that of its last start: from the end before it. The time of the start is no use, as
// it is taken when the program may have printed already.
func output(in *container.InspectResponse) time.Time {
	if in == nil || in.State == nil || !in.State.Running {
		// Of one that has ended, the end that is known is the last one.
		return started(in).Add(-time.Second)
	}
	t, err := time.Parse(time.RFC3339Nano, in.State.FinishedAt)
	if err != nil || t.Before(everything) {
		return everything
	}
	return t
}

func errIfNil(in *container.InspectResponse) error {
	if in == nil || in.State == nil {
		return errdefs.ErrNotFound
	}
	return nil
}

// followOnce shows the output of a container until its end.
func (s *stack) followOnce(id string, since time.Time, src *screen.Source, stamps bool) {
	q := url.Values{"stdout": {"1"}, "stderr": {"1"}, "follow": {"1"}}
	if since.IsZero() {
		q.Set("tail", "0")
	} else {
		q.Set("since", stamp(since))
	}
	if stamps {
		q.Set("timestamps", "1")
	}
	resp, err := s.cl.Do(client.Get(path(id, "/logs"), q))
	if errdefs.IsNotFound(err) {
		return
	}
	if err != nil {
		// Its log cannot be read: what is printed from now on is.
		s.joinOutput(id, src)
		return
	}
	defer resp.Body.Close()
	_ = copyLog(src.Stdout(), src.Stderr(), resp, s.hasTerminal(id, resp)) // The container's state says how it goes on.
	src.Flush()
}

// hasTerminal is asked only where the daemon does not say it with the log.
func (s *stack) hasTerminal(id string, resp *client.Response) bool {
	if t := resp.Header["content-type"]; t != "" && t != "application/octet-stream" {
		return false
	}
	in, err := s.inspect(id)
	return err == nil && in.Config != nil && in.Config.Tty
}

// joinOutput shows what a container prints from now on.
func (s *stack) joinOutput(id string, src *screen.Source) {
	stream, err := s.cl.Hijack(client.Post(path(id, "/attach"), url.Values{"stream": {"1"}, "stdout": {"1"}, "stderr": {"1"}}))
	if err != nil {
		s.untilEnd(id)
		return
	}
	defer stream.Close()
	if stream.Multiplexed {
		_ = client.Demux(src.Stdout(), src.Stderr(), stream.Reader()) // As above.
	} else {
		_, _ = io.Copy(src.Stdout(), stream.Reader())
	}
	src.Flush()
}

// untilEnd waits for a container's end.
func (s *stack) untilEnd(id string) bool {
	_, err := client.CallJSON[container.WaitResponse](s.cl, client.Post(path(id, "/wait"), nil))
	return err == nil
}

func itoa(n int) string { return strconv.Itoa(n) }
