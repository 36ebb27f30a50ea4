package cli

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/image"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

// imagePath is the address of an image's part. Slashes of its name stay, as docker's client leaves them.
func imagePath(name, part string) string {
	return "/images/" + strings.ReplaceAll(url.PathEscape(name), "%2F", "/") + part
}

func (a *app) rmiCommand() *cobra.Command {
	var (
		force, noPrune bool
		platforms      listFlag
	)
	c := &cobra.Command{Use: "rmi [OPTIONS] IMAGE...", Args: atLeast(1)}
	c.Flags().BoolVarP(&force, "force", "f", false, "Remove it even if a stopped container uses it")
	c.Flags().BoolVar(&noPrune, "no-prune", false, "Leave nameless parents")
	list(c.Flags(), &platforms, "platform", "", "Remove only the part for a platform", nil)
	c.RunE = func(_ *cobra.Command, args []string) error {
		q := url.Values{}
		if force {
			q.Set("force", "1")
		}
		if noPrune {
			q.Set("noprune", "1")
		}
		if err := addPlatforms(q, "platforms", platforms.values); err != nil {
			return err
		}
		failed := false
		cl, err := a.client()
		if err != nil {
			return err
		}
		// One after the other: names of one image depend on each other.
		for _, name := range args {
			m := a.measure("Removing "+name, 0)
			list, err := client.CallJSON[[]image.DeleteResponse](cl, client.Delete(imagePath(name, ""), q))
			m.end("", err)
			if err != nil {
				a.complain(a.hintImage(cl, name, err))
				failed = failed || !force || !errors.Is(err, errdefs.ErrNotFound)
				continue
			}
			if err := a.printDeleted(*list); err != nil {
				return err
			}
		}
		if failed {
			return silent(exitFailure)
		}
		return nil
	}
	return c
}

func (a *app) printDeleted(list []image.DeleteResponse) error {
	for _, d := range list {
		line := "Untagged: " + d.Untagged
		if d.Deleted != "" {
			line = "Deleted: " + d.Deleted
		}
		if err := a.printLine(line); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) tagCommand() *cobra.Command {
	return &cobra.Command{
		Use: "tag IMAGE[:TAG] NEW_NAME[:TAG]", Args: exactly(2),
		RunE: func(_ *cobra.Command, args []string) error {
			repo, tag, err := splitTag(args[1])
			if err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			err = cl.Call(client.Post(imagePath(args[0], "/tag"), url.Values{"repo": {repo}, "tag": {tag}}))
			return a.hintImage(cl, args[0], err)
		},
	}
}

// splitTag takes name:tag apart; the daemon checks both.
func splitTag(s string) (repo, tag string, err error) {
	if strings.Contains(s, "@") {
		return "", "", fmt.Errorf("%q names a digest; a new name cannot", s)
	}
	if strings.HasSuffix(s, ":") {
		return "", "", &hintedError{
			err: fmt.Errorf("invalid reference format: %q has no tag behind its colon", s), try: s + "TAG, or " + strings.TrimRight(s, ":") + " for the tag latest", code: "invalid-reference",
		}
	}
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, '/') {
		return s[:i], s[i+1:], nil
	}
	return s, "", nil
}

func (a *app) saveCommand() *cobra.Command {
	var (
		output    string
		platforms listFlag
	)
	c := &cobra.Command{Use: "save [OPTIONS] IMAGE...", Args: atLeast(1)}
	c.Flags().StringVarP(&output, "output", "o", "", "File to write instead of standard output")
	list(c.Flags(), &platforms, "platform", "", "Save only the part for a platform", nil)
	c.RunE = func(_ *cobra.Command, args []string) error {
		q := url.Values{"names": args}
		if err := addPlatforms(q, "platform", platforms.values); err != nil {
			return err
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		err = a.download(cl, client.Get("/images/get", q), output)
		if len(args) == 1 {
			err = a.hintImage(cl, args[0], err)
		}
		return err
	}
	return c
}

func (a *app) imagePruneCommand() *cobra.Command {
	var all bool
	p := pruneFlags{what: "This removes all images without a name that no container uses."}
	c := &cobra.Command{Use: "prune [OPTIONS]", Args: noArgs}
	p.declare(c.Flags())
	c.Flags().BoolVarP(&all, "all", "a", false, "Also images with a name that no container uses")
	c.RunE = func(*cobra.Command, []string) error {
		if all {
			p.what = "This removes all images that no container uses."
			if err := p.filters.Set("dangling=false"); err != nil {
				return err
			}
		}
		return a.prune(&p, a.pruneImages)
	}
	return c
}

// pruneImages returns what was removed and how much that frees.
func (a *app) pruneImages(cl *client.Client, q url.Values) (pruned, error) {
	r, err := client.CallJSON[image.PruneReport](cl, client.Post("/images/prune", q))
	if err != nil {
		return pruned{}, err
	}
	p := pruned{title: "Deleted Images:", space: r.SpaceReclaimed}
	for _, d := range r.ImagesDeleted {
		if d.Untagged != "" {
			p.lines = append(p.lines, "untagged: "+d.Untagged)
		} else {
			p.lines = append(p.lines, "deleted: "+d.Deleted)
		}
	}
	p.lines = slices.Clip(p.lines)
	return p, nil
}
