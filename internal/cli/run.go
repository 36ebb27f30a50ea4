package cli

import (
	"errors"
	"net/url"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

// runFlags are those that run has and create has not.
type runFlags struct {
	containerFlags
	detach     bool
	sigProxy   bool
	detachKeys string
}

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{Use: "run [OPTIONS] IMAGE [COMMAND] [ARG...]", Args: atLeast(1)}
	f.declare(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		cl, err := a.client()
		if err != nil {
			return badUse(err)
		}
		req, err := a.createRequest(cl, &f.containerFlags, c.Flags(), args)
		if err != nil {
			return badUse(err)
		}
		if err := a.runMode(&f, req); err != nil {
			return err // with 1, as docker has it
		}
		return a.runContainer(cl, &f, req)
	}
	return c
}

// runMode fits the request to how the container is run: attached or not, with or without a terminal.
func (a *app) runMode(f *runFlags, req *container.CreateRequest) error {
	if f.detach {
		if len(f.attach.values) > 0 {
			return errors.New("conflicting options: cannot specify both --attach and --detach")
		}
		req.AttachStdin, req.AttachStdout, req.AttachStderr, req.StdinOnce = false, false, false, false
		return nil
	}
	if err := a.checkTTY(req.AttachStdin, req.Tty); err != nil {
		return err
	}
	if rows, cols, ok := terminalSize(a.out); ok && req.Tty {
		req.HostConfig.ConsoleSize = [2]uint{uint(rows), uint(cols)}
	}
	return nil
}

// checkTTY refuses a terminal for a container whose input is none.
func (a *app) checkTTY(attachIn, tty bool) error {
	if !attachIn || !tty {
		return nil
	}
	if _, ok := terminalFD(a.in); ok {
		return nil
	}
	return &hintedError{err: errors.New("the input device is not a TTY"), try: "leave -t out, or run it from a terminal", code: "not-a-terminal"}
}

// runContainer creates the container, attaches, waits and starts, in this order, so that neither output nor end is
// missed.
func (a *app) runContainer(cl *client.Client, f *runFlags, req *container.CreateRequest) error {
	if f.detach {
		return a.runDetached(cl, f, req)
	}
	if cl.Endpoint().Own {
		// What will be needed is connected while the daemon makes the container.
		go cl.ConnectMore(2)
	}
	id, err := a.create(cl, &f.containerFlags, req)
	if err != nil {
		return err
	}
	return a.runMade(cl, f, req, id)
}

// runMade goes on with a container that was created.
func (a *app) runMade(cl *client.Client, f *runFlags, req *container.CreateRequest, id string) error {
	w := watch(cl, id, f.rm)
	keys, err := detachKeys(f.detachKeys, a.config().DetachKeys)
	if err != nil {
		return badUse(err)
	}
	var s *session
	if req.AttachStdin || req.AttachStdout || req.AttachStderr {
		s, err = a.attach(cl, id, streamsOf(req.Config), keys)
		if err != nil {
			return badUse(err)
		}
		defer s.close()
	}
	if err := w.begun(); err != nil {
		return badUse(err)
	}
	if f.sigProxy && !req.Tty {
		defer a.proxySignals(cl, id)()
	}
	if s != nil {
		if err := s.begin(); err != nil {
			return badUse(err)
		}
	} else if err := a.printLine(id); err != nil {
		return err
	}
	if err := w.start(); err != nil {
		if f.rm && daemonGone(err) {
			// Nobody else would remove what never ran. If there is still no daemon, there is no more to be done.
			_ = cl.Call(client.Delete(containerPath(id, ""), nil))
		}
		return a.startFailed(w, s, f.rm, err)
	}
	if req.Tty {
		// Our own daemon gave the terminal the size of the create request.
		defer a.followSize(!cl.Endpoint().Own, func(rows, cols int) error { return resizeContainer(cl, id, rows, cols) })()
	}
	return a.finish(w, s)
}

// finish waits for the output's end and the container's.
func (a *app) finish(w *watcher, s *session) error {
	if s != nil {
		switch err := s.wait(); {
		case errors.Is(err, errDetached):
			a.note(errDetached.Error())
			return nil
		case err != nil:
			return err
		}
	}
	code, err := w.result()
	if s != nil {
		s.close()
	}
	if err != nil {
		return badUse(err)
	}
	if code > 128 {
		a.sayWhy(w, code)
	}
	if code != 0 {
		return silent(code)
	}
	return nil
}

// killedCode is the exit code of what SIGKILL has ended, which is the kernel's signal when memory runs out.
const killedCode = 137

// tellingEnds are the reasons for an end that whoever waited for it wants to know.
var tellingEnds = map[string]bool{"out-of-memory": true, "signalled": true, "crashed": true}

// sayWhy tells a person at a terminal why the container was killed, if its daemon knows. That it was for want of memory is told to
// a log as well: nobody else says so there.
func (a *app) sayWhy(w *watcher, code int) {
	_, terminal := terminalFD(a.err)
	if !terminal && code != killedCode {
		return
	}
	end, err := client.CallJSON[struct{ Reason, Text string }](w.cl.Passive(), client.Get("/kist/containers/"+w.id+"/ending", nil))
	if err == nil && tellingEnds[end.Reason] && (terminal || end.Reason == "out-of-memory") {
		a.note(Why(end.Text, a.coloured()))
	}
}

// startFailed ends what was prepared for a container that did not start.
func (a *app) startFailed(w *watcher, s *session, autoRemove bool, err error) error {
	if s != nil {
		s.close()
	}
	// The daemon removes it; the name is free when that is done. Its result tells nothing new. A daemon that did not answer
	// removes nothing: to wait for that would be for ever.
	if answer := (*client.Error)(nil); autoRemove && errors.As(err, &answer) {
		w.once()
	}
	return &exitError{code: startCode(err), err: err}
}

// startCode is the exit code for a container that could not be started: 127 for a program that is not there, 126 for one
// that cannot be executed, 125 for everything else.
func startCode(err error) int {
	var e *client.Error
	if !errors.As(err, &e) {
		return exitUsage
	}
	if code, ok := startCodes[e.Code]; ok {
		return code
	}
	// Docker's daemon has nothing but the text.
	m := strings.ToLower(e.Message)
	switch {
	case strings.Contains(m, "executable file not found"), strings.Contains(m, "no such file or directory"):
		return 127
	case strings.Contains(m, "permission denied"), strings.Contains(m, "is a directory"), strings.Contains(m, "exec format error"):
		return 126
	}
	return exitUsage
}

// startCodes are the daemon's codes for programs that cannot be run.
var startCodes = map[string]int{
	"exec-not-found": 127, "exec-no-loader": 127, "exec-not-executable": 126, "exec-wrong-architecture": 126,
	"exec-permission": 126, "exec-is-directory": 126, "exec-format": 126, "exec-too-long": 126,
}

func (a *app) runDetached(cl *client.Client, f *runFlags, req *container.CreateRequest) error {
	id, err := a.create(cl, &f.containerFlags, req)
	if err != nil {
		return err
	}
	if _, err := detachKeys(f.detachKeys, ""); err != nil {
		return badUse(err)
	}
	if err := cl.Call(client.Post(containerPath(id, "/start"), nil)); err != nil {
		// docker prints the id of a container that was made but does not run.
		if !f.rm {
			if perr := a.printLine(id); perr != nil {
				return perr
			}
		}
		return &exitError{code: startCode(err), err: err}
	}
	if err := a.printLine(id); err != nil {
		return err
	}
	if len(f.publish.values) > 0 || f.publishAll {
		a.sayPorts(cl, id)
	}
	return nil
}

// streams say which of a container's streams are attached.
type streams struct {
	in, out, err, tty bool
}

func streamsOf(c *container.Config) streams {
	return streams{c.AttachStdin, c.AttachStdout, c.AttachStderr, c.Tty}
}

func resizeContainer(cl *client.Client, id string, rows, cols int) error {
	return cl.Call(client.Post(containerPath(id, "/resize"), sizeQuery(rows, cols)))
}

func sizeQuery(rows, cols int) url.Values {
	return url.Values{"h": {strconv.Itoa(rows)}, "w": {strconv.Itoa(cols)}}
}

// sayPorts tells who can reach the published ports, on a terminal.
func (a *app) sayPorts(cl *client.Client, id string) {
	if _, ok := terminalFD(a.err); !ok {
		return
	}
	c, err := client.CallJSON[container.InspectResponse](cl, client.Get(containerPath(id, "/json"), nil))
	if err != nil || c.NetworkSettings == nil {
		return
	}
	for _, line := range reachable(c.NetworkSettings.Ports) {
		a.note(line)
	}
}
