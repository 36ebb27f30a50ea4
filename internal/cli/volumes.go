package cli

import (
	"errors"
	"net/url"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

func volumePath(name string) string { return "/volumes/" + url.PathEscape(name) }

// volumeRow is a line of volume ls.
type volumeRow struct {
	Availability string
	Driver       string
	Group        string
	Labels       string
	Links        string
	Mountpoint   string
	Name         string
	Scope        string
	Size         string
	Status       string
	labels
}

var volumeHeaders = headers{
	"ID": "ID", "Name": "VOLUME NAME", "Driver": "DRIVER", "Scope": "SCOPE", "Mountpoint": "MOUNTPOINT", "Labels": "LABELS",
	"Links": "LINKS", "Size": "SIZE", "Group": "GROUP", "Availability": "AVAILABILITY", "Status": "STATUS",
}

func volumeRowOf(v *volume.Volume) volumeRow {
	r := volumeRow{
		Availability: "N/A", Group: "N/A", Links: "N/A", Size: "N/A", Status: "N/A",
		Driver: v.Driver, Mountpoint: v.Mountpoint, Name: v.Name, Scope: v.Scope, labels: labels{v.Labels},
	}
	r.Labels = r.joined()
	if v.UsageData != nil {
		r.Links = strconv.FormatInt(v.UsageData.RefCount, 10)
		if v.UsageData.Size >= 0 {
			r.Size = units.HumanSize(float64(v.UsageData.Size))
		}
	}
	return r
}

func (a *app) volumeListCommand() *cobra.Command {
	var (
		format  string
		quiet   bool
		filters filterFlag
	)
	c := &cobra.Command{Use: "ls [OPTIONS]", Args: noArgs}
	c.Flags().VarP(&filters, "filter", "f", "Show only what matches, as in dangling=true")
	c.Flags().StringVar(&format, "format", "", formatHelp)
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "Print names only")
	c.RunE = func(*cobra.Command, []string) error {
		if format == "" {
			format = a.config().Volumes
		}
		l := &listing{format: format, headers: volumeHeaders, table: "{{.Driver}}\t{{.Name}}", raw: "name: {{.Name}}\ndriver: {{.Driver}}\n"}
		if quiet {
			l.quiet = "{{.Name}}"
		}
		q := url.Values{}
		filters.addTo(q)
		cl, err := a.client()
		if err != nil {
			return err
		}
		list, err := client.CallJSON[volume.ListResponse](cl, client.Get("/volumes", q))
		if err != nil {
			return err
		}
		for _, w := range list.Warnings {
			a.note("warning: " + w)
		}
		rows := make([]volumeRow, len(list.Volumes))
		for i := range list.Volumes {
			rows[i] = volumeRowOf(&list.Volumes[i])
		}
		return printRows(a.out, l, rows)
	}
	return c
}

func (a *app) volumeCreateCommand() *cobra.Command {
	var (
		driver, name string
		labels, opts listFlag
	)
	c := &cobra.Command{Use: "create [OPTIONS] [NAME]", Args: between(0, 1)}
	c.Flags().StringVarP(&driver, "driver", "d", "local", "Volume driver")
	list(c.Flags(), &labels, "label", "", "Set a label: name=value", checkLabel)
	c.Flags().StringVar(&name, "name", "", "The volume's name")
	c.Flags().Lookup("name").Hidden = true
	list(c.Flags(), &opts, "opt", "o", "Option for the driver: name=value", nil)
	c.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) == 1 {
			if name != "" {
				return errors.New("conflicting options: cannot specify a volume-name through both --name and as a positional arg")
			}
			name = args[0]
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		v, err := client.Ask[volume.Volume](cl, "/volumes/create", nil, volume.CreateRequest{
			Name: name, Driver: driver, DriverOpts: mapOf(opts.values), Labels: mapOf(labels.values),
		})
		if err != nil {
			return err
		}
		return a.printLine(v.Name)
	}
	return c
}

func (a *app) volumeRemoveCommand() *cobra.Command {
	var force bool
	c := &cobra.Command{Use: "rm [OPTIONS] VOLUME...", Args: atLeast(1)}
	c.Flags().BoolVarP(&force, "force", "f", false, "Do not fail if it does not exist")
	c.RunE = func(_ *cobra.Command, args []string) error {
		q := url.Values{}
		if force {
			q.Set("force", "1")
		}
		return a.each(args, func(cl *client.Client, name string) (string, error) {
			err := cl.Call(client.Delete(volumePath(name), q))
			if force && errors.Is(err, errdefs.ErrNotFound) {
				err = nil
			}
			return name, err
		})
	}
	return c
}
