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

// topFlags are those of the table of processes; docker's top has none.
type topFlags struct {
	format         string
	sort           string
	live, noStream bool
	lines          int
}

func (a *app) topCommand() *cobra.Command {
	var f topFlags
	c := &cobra.Command{Use: "top [OPTIONS] [CONTAINER [ps OPTIONS]]"}
	c.Flags().SetInterspersed(false)
	c.Flags().StringVar(&f.format, "format", "", formatHelp)
	c.Flags().BoolVarP(&f.live, "live", "l", false, "The live table, of the containers that are named, as without any")
	c.Flags().IntVarP(&f.lines, "lines", "n", 0, "Show at most so many processes")
	c.Flags().BoolVar(&f.noStream, "no-stream", false, "Print the table once and end")
	c.Flags().StringVar(&f.sort, "sort", "cpu", "Order of the table: cpu, memory, time, container or pid")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 || f.live || f.noStream || f.format != "" {
			return a.processTable(&f, args)
		}
		return a.topOf(args)
	}
	return c
}

// topOf is docker's: one container's processes, as ps prints them.
func (a *app) topOf(args []string) error {
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
