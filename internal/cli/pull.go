package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

// transferFlags are pull's and push's.
type transferFlags struct {
	all, quiet, untrusted bool
	platform, progress    string
}

// declare adds the flags; the texts are those that differ.
func (f *transferFlags) declare(c *cobra.Command, all, platform, untrusted string) {
	fs := c.Flags()
	fs.BoolVarP(&f.all, "all-tags", "a", false, all)
	fs.StringVar(&f.platform, "platform", "", platform)
	fs.StringVar(&f.progress, "progress", "auto", "How to show progress: auto, plain, json or quiet")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "Print the image's name only")
	fs.BoolVar(&f.untrusted, "disable-content-trust", true, untrusted)
	fs.Lookup("disable-content-trust").Hidden = true
}

// read returns the image that is meant and how to show progress.
func (f *transferFlags) read(a *app, name string) (imageName, progressStyle, error) {
	style, err := a.progressStyle(f.progress, f.quiet)
	if err != nil {
		return imageName{}, style, err
	}
	ref, err := parseImage(name)
	if err == nil && f.all && !ref.nameOnly() {
		err = errors.New("tag can't be used with --all-tags/-a")
	}
	return ref, style, err
}

func (a *app) pullCommand() *cobra.Command {
	var f transferFlags
	c := &cobra.Command{Use: "pull [OPTIONS] NAME[:TAG|@DIGEST]", Args: exactly(1)}
	f.declare(c, "Fetch every tag of the name", "Platform of the image: os/architecture", "Signatures are not checked")
	c.RunE = func(_ *cobra.Command, args []string) error {
		ref, style, err := f.read(a, args[0])
		if err != nil {
			return err
		}
		if !f.all && ref.nameOnly() {
			ref = ref.tagged()
			if style != styleQuiet {
				a.note("Using default tag: " + ref.tag)
			}
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		if err := a.pullRef(cl, ref, f.platform, style); err != nil {
			return err
		}
		return a.printLine(ref.String())
	}
	return c
}

// pull fetches an image for run and create.
func (a *app) pull(cl *client.Client, image, platform string, quiet bool) error {
	ref, err := parseImage(image)
	if err != nil {
		return err
	}
	style, err := a.progressStyle("", quiet)
	if err != nil {
		return err
	}
	return a.pullRef(cl, ref.tagged(), platform, style)
}

func (a *app) pullRef(cl *client.Client, ref imageName, platform string, style progressStyle) error {
	q := url.Values{"fromImage": {ref.familiar()}}
	switch {
	case ref.digest != "":
		q.Set("tag", ref.digest)
	case ref.tag != "":
		q.Set("tag", ref.tag)
	}
	if platform != "" {
		q.Set("platform", strings.ToLower(platform))
	}
	v := a.newProgress(style)
	if err := a.registryCall(cl, client.Post("/images/create", q), ref.domain, v); err != nil {
		return err
	}
	return v.totals("Pulled")
}

// registryCall makes a request that the daemon passes on to a registry, with the credentials for it, and shows the
// progress.
func (a *app) registryCall(cl *client.Client, r *client.Request, domain string, v *progressView) error {
	return a.registryStream(cl, r, domain, v.show)
}

// registryStream is registryCall for anybody who reads the progress.
func (a *app) registryStream(cl *client.Client, r *client.Request, domain string, show func(io.Reader) error) error {
	auth, err := a.credentials(domain)
	if err != nil {
		a.note("warning: " + err.Error())
	}
	b, err := json.Marshal(auth)
	if err != nil {
		return fmt.Errorf("encode the credentials: %w", err)
	}
	r.SetAuth(b)
	resp, err := cl.Do(r)
	if err != nil {
		return err
	}
	return errors.Join(show(resp.Body), resp.Body.Close())
}

func (a *app) pushCommand() *cobra.Command {
	var f transferFlags
	c := &cobra.Command{Use: "push [OPTIONS] NAME[:TAG]", Args: exactly(1)}
	f.declare(c, "Send every tag of the name", "Send only the part for a platform: os/architecture", "Images are not signed")
	c.RunE = func(_ *cobra.Command, args []string) error {
		ref, style, err := f.read(a, args[0])
		if err != nil {
			return err
		}
		q := url.Values{}
		if !f.all {
			ref = ref.tagged()
			q.Set("tag", ref.tag)
		}
		if f.platform != "" {
			if err := addPlatform(q, "platform", f.platform); err != nil {
				return err
			}
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		v := a.newProgress(style)
		r := client.Post(imagePath(ref.familiar(), "/push"), q)
		if err := a.registryCall(cl, r, ref.domain, v); err != nil {
			return a.hintImage(cl, args[0], err)
		}
		if style == styleQuiet {
			return a.printLine(ref.String())
		}
		return v.totals("Pushed")
	}
	return c
}
