package cli

import (
	"fmt"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

func (a *app) topCommand() *cobra.Command {
	c := &cobra.Command{Use: "top CONTAINER [ps OPTIONS]", Args: atLeast(1)}
	c.Flags().SetInterspersed(false)
	c.RunE = func(_ *cobra.Command, args []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		q := url.Values{}
		if len(args) > 1 {
			q.Set("ps_args", strings.Join(args[1:], " "))
		}
		r, err := client.CallJSON[container.TopResponse](cl, client.Get(containerPath(args[0], "/top"), q))
		if err != nil {
			return a.hintContainer(cl, args[0], err)
		}
		w := tabwriter.NewWriter(a.out, 20, 1, 3, ' ', 0)
		fmt.Fprintln(w, strings.Join(r.Titles, "\t"))
		for _, p := range r.Processes {
			fmt.Fprintln(w, strings.Join(p, "\t"))
		}
		return w.Flush()
	}
	return c
}
