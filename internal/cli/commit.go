package cli

import (
	"net/url"

	"github.com/moby/moby/api/types/common"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

func (a *app) commitCommand() *cobra.Command {
	var (
		author, message string
		changes         listFlag
		pause, noPause  bool
	)
	c := &cobra.Command{Use: "commit [OPTIONS] CONTAINER [NAME[:TAG]]", Args: between(1, 2)}
	c.Flags().StringVarP(&author, "author", "a", "", "Author, as in \"Name <mail>\"")
	list(c.Flags(), &changes, "change", "c", "Apply a Dockerfile instruction to the image", nil)
	c.Flags().StringVarP(&message, "message", "m", "", "Comment to keep with the image")
	c.Flags().BoolVarP(&pause, "pause", "p", true, "Freeze the container meanwhile")
	c.Flags().BoolVar(&noPause, "no-pause", false, "Do not freeze the container")
	c.RunE = func(_ *cobra.Command, args []string) error {
		q := url.Values{"container": {args[0]}, "author": {author}, "comment": {message}, "changes": changes.values}
		if len(args) == 2 {
			repo, tag, err := splitTag(args[1])
			if err != nil {
				return err
			}
			q.Set("repo", repo)
			q.Set("tag", tag)
		}
		if !pause || noPause {
			q.Set("pause", "0")
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		m := a.measure("Committing "+args[0], 0)
		r, err := client.CallJSON[common.IDResponse](cl, &client.Request{Method: "POST", Path: "/commit", Query: q, Body: []byte("{}")})
		m.end("", err)
		if err != nil {
			return a.hintContainer(cl, args[0], err)
		}
		return a.printLine(r.ID)
	}
	return c
}
