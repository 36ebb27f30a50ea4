package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/movemsg"
)

// moveKinds are the kinds in the order in which a bare name is looked for.
var moveKinds = []string{movemsg.Container, movemsg.Image, movemsg.Volume}

func (a *app) moveCommand() *cobra.Command {
	var (
		req            movemsg.Request
		kind, progress string
		quiet          bool
	)
	c := &cobra.Command{Use: "move [OPTIONS] IMAGE|VOLUME|CONTAINER... ssh://[USER@]HOST|unix:///SOCKET|CONTEXT", Args: atLeast(2)}
	c.Flags().BoolVar(&req.Keep, "keep", false, "Leave a container here too, and have it go on")
	c.Flags().BoolVar(&req.KeepBinds, "keep-binds", false, "Move containers that use paths of this host: the other host has them too")
	c.Flags().StringVar(&req.NewName, "name", "", "What it is called there")
	c.Flags().BoolVar(&req.Replace, "replace", false, "Let volumes take the place of others of the same name")
	c.Flags().BoolVar(&req.Remove, "rm", false, "Remove images and volumes here once they are there")
	c.Flags().StringVar(&kind, "type", "", "Look only for this kind: container, image, volume")
	c.Flags().StringVar(&progress, "progress", "auto", "How to show progress: auto, plain, json or quiet")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "Print only what it is there: an id, or a volume's name")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		style, err := a.progressStyle(progress, quiet)
		if err != nil {
			return err
		}
		kinds := moveKinds
		if kind != "" {
			if !slices.Contains(moveKinds, kind) {
				return usageError(cmd, "--type %s: must be %s", kind, strings.Join(moveKinds, ", "))
			}
			kinds = []string{kind}
		}
		names, target := args[:len(args)-1], args[len(args)-1]
		if req.NewName != "" && len(names) > 1 {
			return usageError(cmd, "--name is for one thing, and there are %s", plural(len(names), "name"))
		}
		return a.move(names, kinds, target, &req, style)
	}
	return c
}

// move moves things one after the other.
func (a *app) move(names, kinds []string, target string, req *movemsg.Request, style progressStyle) error {
	here, err := a.client()
	if err != nil {
		return err
	}
	e, err := a.moveTarget(target)
	if err != nil {
		return err
	}
	there := client.New(e, client.Options{Agent: Version})
	defer there.Close()
	for _, name := range names {
		r := *req
		if r.Kind, r.Name, err = a.moveKind(here, kinds, name); err != nil {
			return err
		}
		r.Plain = e.Scheme == "unix"
		if err := a.moveOne(here, there, &r, target, style); err != nil {
			return fmt.Errorf("move %s: %w", name, err)
		}
	}
	return nil
}

// moveTarget is an address or a context's name.
func (a *app) moveTarget(s string) (client.Endpoint, error) {
	var e client.Endpoint
	var err error
	if strings.Contains(s, "://") {
		e, err = client.ParseHost(s)
	} else {
		e, err = a.contexts().connection(s)
		if errdefs.IsNotFound(err) {
			err = &hintedError{err: err, try: "an address, as ssh://host or unix:///run/qa/kist.sock; kist context ls lists the contexts", code: "move-no-target"}
		}
	}
	e.From = "the command"
	return e, err
}

// moveKind finds out what a name stands for.
func (a *app) moveKind(cl *client.Client, kinds []string, name string) (kind, exact string, err error) {
	o, err := a.lookUp(cl, kinds, name, false)
	if err != nil {
		return "", "", err
	}
	if o.kind == movemsg.Container { // By its id: a prefix may mean something else by the time it is asked for.
		var c struct {
			ID string `json:"Id"`
		}
		if err := json.Unmarshal(o.raw, &c); err != nil {
			return "", "", fmt.Errorf("read the daemon's answer: %w", err)
		}
		name = c.ID
	}
	return o.kind, name, nil
}

// moveOne has the two daemons talk to each other.
func (a *app) moveOne(here, there *client.Client, r *movemsg.Request, target string, style progressStyle) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	far, err := there.Hijack(client.Post("/kist/move/receive", nil))
	if err != nil {
		return noKistThere(err, target)
	}
	defer far.Close()
	near, err := here.Hijack(client.Post("/kist/move/send", url.Values{"request": {string(raw)}}))
	if err != nil {
		return err
	}
	defer near.Close()
	v := &moveView{a: a, v: a.newProgress(style), began: time.Now(), req: r, target: target}
	if err := v.join(near, far); err != nil {
		return err
	}
	return v.end()
}

// noKistThere explains a daemon that cannot take anything in.
func noKistThere(err error, target string) error {
	var refused *client.Error
	text := err.Error()
	switch {
	case errors.As(err, &refused) && (refused.Status == 404 || refused.Status == 400 || refused.Status == 501):
		return &hintedError{
			err: fmt.Errorf("the daemon at %s is no kist, or an older one: %w", target, err), code: "move-no-kist",
			try: "install kist there; or kist save IMAGE | docker -H " + target + " load",
		}
	case strings.HasPrefix(target, "ssh://") && (strings.Contains(text, "not found") || strings.Contains(text, "docker.sock")):
		return &hintedError{
			err: fmt.Errorf("there is no kist at %s: %w", target, err), code: "move-no-kist",
			try: "install kist there, for all users: a command over ssh has a short PATH",
		}
	case strings.HasPrefix(target, "ssh://"):
		return &hintedError{err: fmt.Errorf("cannot reach %s: %w", target, err), code: "move-no-ssh", try: "ssh " + strings.TrimPrefix(target, "ssh://") + " true"}
	}
	if f, ok := fault.As(err); ok && (f.Code == "daemon-wrong-socket" || f.Code == "daemon-not-running") {
		return &hintedError{err: errors.New("cannot reach the daemon at " + target + ": nothing listens there"), code: f.Code, try: "start it: kistd -H " + target + ", with roots of its own"}
	}
	return err
}
