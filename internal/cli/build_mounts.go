package cli

import (
	"net/url"
	"strconv"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/buildmsg"
	"github.com/kistdev/kist/internal/client"
)

func (a *app) cacheMountCommands() []entry {
	return []entry{
		{names: []string{"export"}, short: "Write a cache mount as an archive", new: a.cacheMountExportCommand},
		{names: []string{"import"}, short: "Begin a cache mount with an archive", new: a.cacheMountImportCommand},
		{names: []string{"ls", "list"}, short: "List cache mounts", new: a.cacheMountListCommand},
	}
}

// mountRow is a line of the list of cache mounts.
type mountRow struct {
	ID       string
	Key      string
	Size     string
	InUse    string
	Created  string
	LastUsed string
}

var mountHeaders = headers{
	"ID": "ID", "Key": "KEY", "Size": "SIZE", "InUse": "IN USE", "Created": "CREATED", "LastUsed": "LAST ACCESSED",
}

func (a *app) cacheMountListCommand() *cobra.Command {
	var format string
	c := &cobra.Command{Use: "ls [OPTIONS]", Args: noArgs}
	c.Flags().StringVar(&format, "format", "", formatHelp)
	c.RunE = func(*cobra.Command, []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		list, err := client.CallJSON[[]buildmsg.CacheMount](cl, client.Get("/kist/build/mounts", nil))
		if err != nil {
			return err
		}
		now := time.Now()
		rows := make([]mountRow, len(*list))
		for i, m := range *list {
			rows[i] = mountRow{
				ID: m.ID, Key: m.Key[:min(12, len(m.Key))], Size: units.HumanSize(float64(m.Size)), InUse: strconv.FormatBool(m.InUse),
				Created: units.HumanDuration(now.Sub(m.Created)) + " ago", LastUsed: units.HumanDuration(now.Sub(m.Used)) + " ago",
			}
		}
		return printRows(a.out, &listing{format: format, table: "{{.ID}}\t{{.Size}}\t{{.InUse}}\t{{.Created}}\t{{.LastUsed}}", headers: mountHeaders}, rows)
	}
	return c
}

func (a *app) cacheMountExportCommand() *cobra.Command {
	var output string
	c := &cobra.Command{Use: "export [OPTIONS] ID", Args: exactly(1)}
	c.Flags().StringVarP(&output, "output", "o", "", "File to write instead of standard output")
	c.RunE = func(_ *cobra.Command, args []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		return a.download(cl, client.Get("/kist/build/mounts/tar", url.Values{"id": args}), output)
	}
	return c
}

func (a *app) cacheMountImportCommand() *cobra.Command {
	var input string
	c := &cobra.Command{Use: "import [OPTIONS] ID", Args: exactly(1)}
	c.Flags().StringVarP(&input, "input", "i", "", "File to read instead of standard input")
	c.RunE = func(_ *cobra.Command, args []string) error {
		src, err := a.source(input)
		if err != nil {
			return err
		}
		defer src.Close()
		cl, err := a.client()
		if err != nil {
			return err
		}
		resp, err := cl.Do(&client.Request{Method: "POST", Path: "/kist/build/mounts/tar", Query: url.Values{"id": args}, Stream: src})
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
	return c
}
