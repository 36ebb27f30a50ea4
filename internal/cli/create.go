package cli

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kistdev/kist/internal/client"
)

func (a *app) createCommand() *cobra.Command {
	var f containerFlags
	c := &cobra.Command{Use: "create [OPTIONS] IMAGE [COMMAND] [ARG...]", Args: atLeast(1)}
	f.declare(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		req, err := a.createRequest(cl, &f, c.Flags(), args)
		if err != nil {
			return badUse(err)
		}
		id, err := a.create(cl, &f, req)
		if err != nil {
			return err
		}
		return a.printLine(id)
	}
	return c
}

// badUse is an error of run's and create's flags, which end with their own code.
func badUse(err error) error { return &exitError{code: exitUsage, err: err} }

func (a *app) createRequest(cl *client.Client, f *containerFlags, fs *pflag.FlagSet, args []string) (*container.CreateRequest, error) {
	switch f.pull {
	case "always", "missing", "never":
	default:
		return nil, fmt.Errorf("invalid pull option: '%s': must be one of always, missing or never", f.pull)
	}
	return f.request(fs, args, surroundings{lookup: os.LookupEnv, proxyEnv: a.config().proxyEnv(cl.Endpoint().String())})
}

// create makes the container, pulling its image where that is wanted, and returns the container's id.
func (a *app) create(cl *client.Client, f *containerFlags, req *container.CreateRequest) (string, error) {
	cid, err := newCIDFile(f.cidfile)
	if err != nil {
		return "", badUse(err)
	}
	if f.pull == "always" {
		if err := a.pull(cl, req.Image, f.platform, f.quiet); err != nil {
			return "", errors.Join(badUse(err), cid.discard())
		}
	}
	resp, err := a.postCreate(cl, f, req)
	if err != nil && f.pull == "missing" && imageMissing(err) {
		if !f.quiet {
			a.note("Pulling " + req.Image + " ...")
		}
		missing := err
		if err := a.pull(cl, req.Image, f.platform, f.quiet); err != nil {
			return "", errors.Join(badUse(meantHere(missing, err)), cid.discard())
		}
		resp, err = a.postCreate(cl, f, req)
	}
	if err != nil {
		return "", errors.Join(badUse(err), cid.discard())
	}
	for _, w := range resp.Warnings {
		a.note("warning: " + w)
	}
	return resp.ID, cid.write(resp.ID)
}

func (a *app) postCreate(cl *client.Client, f *containerFlags, req *container.CreateRequest) (*container.CreateResponse, error) {
	q := url.Values{}
	if f.name != "" {
		q.Set("name", f.name)
	}
	if f.platform != "" {
		q.Set("platform", f.platform)
	}
	if len(f.secrets.values) > 0 {
		return postWithSecrets(cl, f.secrets.values, q, req)
	}
	return client.Ask[container.CreateResponse](cl, "/containers/create", q, req)
}

// meantHere adds to the failure to pull an image what the daemon said of one that is here and has nearly the same name, or
// is for other platforms.
func meantHere(missing, err error) error {
	var e *client.Error
	if errors.As(missing, &e) && e.Code == "no-such-platform" {
		both := *e
		both.Cause, both.Try = e.Cause+" here; "+err.Error(), ""
		return &both
	}
	if near, ok := "", errors.As(missing, &e); ok {
		if near, ok = strings.CutPrefix(e.Try, "did you mean "); ok {
			return &hintedError{err: err, try: "did you mean " + strings.TrimSuffix(near, "?") + ", which is here?"}
		}
	}
	return err
}

// imageMissing tells that a create failed for want of the image. Docker's own daemon has no code and says "No such image";
// a missing network or volume has the same status.
func imageMissing(err error) bool {
	var e *client.Error
	if !errors.As(err, &e) || !errors.Is(err, errdefs.ErrNotFound) {
		return false
	}
	switch e.Code {
	case "no-such-image", "image-not-found", "no-such-platform", "platform-not-available":
		return true
	}
	return strings.Contains(strings.ToLower(e.Message), "no such image")
}

// cidFile is the file of --cidfile. It is made before the container, so that no other command can take it.
type cidFile struct {
	path string
	f    *os.File
}

func newCIDFile(path string) (*cidFile, error) {
	if path == "" {
		return &cidFile{}, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("container ID file found, make sure the other container isn't running or delete %s", path)
	}
	if err != nil {
		return nil, fmt.Errorf("failed to create the container ID file: %w", err)
	}
	return &cidFile{path, f}, nil
}

func (c *cidFile) write(id string) error {
	if c.f == nil {
		return nil
	}
	_, err := c.f.WriteString(id)
	return errors.Join(err, c.f.Close())
}

func (c *cidFile) discard() error {
	if c.f == nil {
		return nil
	}
	return errors.Join(c.f.Close(), os.Remove(c.path))
}
