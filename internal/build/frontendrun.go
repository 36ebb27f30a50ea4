package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	bkerrdefs "github.com/moby/buildkit/solver/errdefs"

	"github.com/kistdev/kist/internal/bridge"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/runstep"
	"github.com/kistdev/kist/internal/sys"
)

// frontendGrace is how long a frontend may take to exit when it has returned its result, or closed its connection.
const frontendGrace = 10 * time.Second

// errReturned ends a frontend that does not exit by itself after it has returned.
var errReturned = errors.New("the frontend has returned")

// errSilent is a connection that ended while the frontend went on.
var errSilent = errors.New("it closed its connection, or never used it, and went on running")

// container runs the frontend to its end.
func (g *gateway) container(ctx context.Context, f *frontendImage) (*gwclient.Result, error) {
	if g.j.b.cfg.Commands == nil {
		return nil, fmt.Errorf("the frontend %s: commands cannot be run here: %w", f.source, errdefs.ErrNotImplemented)
	}
	r, err := f.request(g)
	if err != nil {
		return nil, fmt.Errorf("the frontend %s: %w", f.source, err)
	}
	conn, far, err := sys.SocketPair()
	if err != nil {
		return nil, fmt.Errorf("connect to the frontend %s: %w", f.source, err)
	}
	t := g.j.progress.internal("[internal] frontend " + f.source)
	r.Stdio, r.Output, r.Notice = far, t.log(2), func(line string) { t.say("%s", line) }
	b := bridge.New(ctx, bridge.Config{Gateway: g, Inputs: g.inputs, Platforms: runstep.Platforms})
	err = g.converse(ctx, b, conn, r)
	b.End()
	res, returned, said := b.Returned()
	res, err = f.verdict(res, returned, said, err)
	if ctx.Err() != nil && err != nil {
		err = context.Cause(ctx)
	}
	var own *fault.Error
	if err != nil && errors.As(err, &own) && own.Code == "frontend-failed" {
		t.end(err)
	} else {
		t.end(nil) // What failed is a step, and tells it.
	}
	return res, err
}

// converse runs the container and serves it. The error is why it ended, nil for success.
func (g *gateway) converse(ctx context.Context, b *bridge.Bridge, conn net.Conn, r runstep.Request) error {
	ctx, cancel := context.WithCancelCause(ctx)
	served, ended := make(chan error, 1), make(chan struct{})
	go func() { served <- b.ServeConn(ctx, conn) }()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-b.Done():
			impatient(ended, frontendGrace, func() { cancel(errReturned) })
		case err := <-served:
			served <- err
			if err != nil { // What it says can mean nothing any more.
				cancel(err)
				return
			}
			impatient(ended, frontendGrace, func() { cancel(errSilent) })
		case <-ended:
		}
	}()
	_, err := g.j.b.cfg.Commands.Run(ctx, r)
	close(ended)
	cancel(errAbandoned)
	<-watched
	garbage := <-served
	if garbage != nil {
		return errors.Join(garbage, err)
	}
	return err
}

// impatient calls fn unless the end comes within the time.
func impatient(ended <-chan struct{}, d time.Duration, fn func()) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		fn()
	}
}

// verdict is what came of a frontend. An error that it returned says more than its exit, its exit more than a result.
func (f *frontendImage) verdict(res *gwclient.Result, returned bool, said, ended error) (*gwclient.Result, error) {
	var step *StepError
	var exit *runstep.ExitError
	var garbage *bridge.GarbageError
	look := "see whether " + f.source + " is the image of a frontend"
	if len(f.config.Entrypoint) == 0 {
		look += ": it has no entrypoint"
	}
	failed := func(cause, try string, err error) (*gwclient.Result, error) {
		return nil, &fault.Error{
			Code: "frontend-failed", What: fmt.Sprintf("the frontend %s failed", f.source), Cause: cause, Try: try,
			Class: errdefs.ErrUnknown, Err: err,
		}
	}
	switch {
	case said != nil && (errors.As(said, &step) || len(bkerrdefs.Sources(said)) > 0):
		return nil, said // It tells a place by itself.
	case said != nil && isFault(said): // Ours, of what it asked for: an image that is not there.
		return nil, fmt.Errorf("the frontend %s: %w", f.source, said)
	case said != nil:
		return failed(said.Error(), "", said)
	case errors.Is(ended, errReturned) && returned:
		return res, nil
	case errors.As(ended, &garbage):
		return failed(fmt.Sprintf("a frontend speaks gRPC over its standard input and output, and this one wrote %q", text(garbage.Said)),
			look, ended)
	case errors.As(ended, &exit):
		return failed(fmt.Sprintf("it ended with exit code %d%s", exit.Code, lastLines(exit.Tail)), f.advice(exit, look), ended)
	case errors.Is(ended, errSilent):
		return failed(ended.Error(), look, ended)
	case ended != nil:
		return nil, fmt.Errorf("the frontend %s: %w", f.source, ended)
	case !returned:
		return failed("it ended without a result", look, nil)
	}
	return res, nil
}

func isFault(err error) bool {
	_, ok := fault.As(err)
	return ok
}

// advice is what a person can do about a frontend that ended with an error.
func (f *frontendImage) advice(e *runstep.ExitError, look string) string {
	if try := advice(e); try != "" && len(f.config.Entrypoint) > 0 {
		return try
	}
	if e.Code == 126 || e.Code == 127 {
		return look
	}
	return ""
}

// text cuts what a program wrote to its first line.
func text(raw []byte) string {
	line, _, _ := bytes.Cut(raw, []byte("\n"))
	return strings.ToValidUTF8(string(line), "?")
}

// frontendLines is how many of a frontend's last lines an error has.
const frontendLines = 5

// lastLines is the end of what a program complained of, for an error. A Go program that panics says why above where.
func lastLines(tail string) string {
	lines := strings.Split(strings.TrimSpace(strings.ToValidUTF8(tail, "?")), "\n")
	last := lines[max(0, len(lines)-frontendLines):]
	for i, line := range lines {
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			last = lines[i : i+1]
		}
	}
	if len(last) == 1 && last[0] == "" {
		return ", and said nothing"
	}
	return ", and said last: " + strings.Join(last, "\n")
}
