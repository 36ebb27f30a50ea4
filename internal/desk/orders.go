package desk

import (
	"context"
	"os"
	"syscall"

	docker "github.com/moby/moby/api/types/container"

	"github.com/kistdev/kist/internal/api"
	"github.com/kistdev/kist/internal/cli"
	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/engine"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/front"
)

// run carries out a run as the client does: create, attach, wait, start.
func (x *session) run() error {
	order, ok := cli.ReadRun(x.args[1:])
	if !ok {
		return x.send(front.Decline, "")
	}
	// What was begun is finished, as it is for a request of the API.
	begun := context.Background()
	made, err := x.containers.Create(begun, order.Name, nil, *order.Request)
	if err != nil {
		// The client does it again: it pulls the image, or says what is wrong.
		return x.send(front.Decline, "")
	}
	x.note("RUN", "/containers/"+made.ID)
	for _, w := range made.Warnings {
		if err := x.send(front.Warn, "warning: "+w+"\n"); err != nil {
			return err
		}
	}
	removed := order.Request.HostConfig.AutoRemove
	if !order.Detach {
		return x.attend(begun, made.ID, removed)
	}
	if err := x.containers.Start(begun, made.ID); err != nil {
		text, code := x.complaint(err, false)
		if !removed {
			// docker prints the id of a container that was made but does not run.
			text = made.ID + "\n" + text
		}
		return x.end(front.Failed, code, text)
	}
	return x.end(front.Ended, 0, made.ID+"\n")
}

// attend starts a container with the client attached, and tells how it ended.
func (x *session) attend(begun context.Context, id string, removed bool) error {
	ctx, release := x.watch(func(signal string) {
		// The container may have ended; then its exit is on the way.
		_ = x.containers.Kill(begun, id, signal)
	})
	defer release()
	condition, told := docker.WaitConditionNextExit, id
	if removed {
		condition, told = docker.WaitConditionRemoved, "r"+id
	}
	exit, err := x.containers.Wait(ctx, id, condition)
	if err == nil {
		err = ctx.Err() // A client that is gone starts nothing.
	}
	if err == nil {
		err = x.containers.StartAttached(begun, id, engine.AttachOptions{Stdout: true, Stderr: true, Stream: true, Hijack: x.hijack})
	}
	if err != nil {
		text, code := x.complaint(err, false)
		return x.end(front.Failed, code, text)
	}
	if err := x.send(front.Started, told); err != nil {
		return err
	}
	r, ok := <-exit
	if !ok {
		return ctx.Err()
	}
	killed := r.StatusCode == 128+int64(syscall.SIGKILL)
	// A log is told of what nobody else says there; all else that is worth telling, a terminal.
	if end := x.containers.Ending(id); end.Telling() && (x.coloured || killed && end.Reason == engine.EndOutOfMemory) {
		if err := x.send(front.Warn, cli.Why(end.Text, x.coloured)+"\n"); err != nil {
			return err
		}
	}
	return x.end(front.Ended, int(r.StatusCode), "")
}

// hijack gives the client's end of the output away.
func (x *session) hijack(bool) (engine.Stream, error) {
	var f *os.File
	f, x.stream = x.stream, nil
	return engine.Stream{File: f}, nil
}

// exec carries out an exec.
func (x *session) exec() error {
	order, ok := cli.ReadExec(x.args[1:])
	if !ok {
		return x.send(front.Decline, "")
	}
	begun := context.Background()
	id, err := x.containers.ExecCreate(begun, order.Container, order.Request)
	if err != nil {
		return x.send(front.Decline, "")
	}
	x.note("EXEC", "/containers/"+order.Container+"/exec")
	o := engine.ExecStartOptions{Detach: order.Detach(), Hijack: x.hijack, Say: func(err error) string {
		text, _ := x.complaint(err, true)
		return text
	}}
	err = x.containers.ExecStart(begun, id, o)
	if err != nil && (o.Detach || x.stream != nil) {
		text, code := x.complaint(err, true)
		return x.end(front.Failed, code, text)
	}
	if o.Detach {
		return x.end(front.Ended, 0, "")
	}
	// A failure was told on the stream, where the output would have gone.
	ctx, release := x.watch(func(string) {})
	defer release()
	code, err := x.containers.ExecWait(ctx, id)
	if err != nil {
		return err
	}
	return x.end(front.Ended, code, "")
}

// complaint is an error as the client would write it.
func (x *session) complaint(err error, exec bool) (text string, code int) {
	return cli.Complaint(&client.Error{Status: api.StatusOf(err), Parts: fault.PartsOf(err)}, exec, x.coloured)
}
