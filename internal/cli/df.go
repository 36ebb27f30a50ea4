package cli

import (
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
)

// dfRow is a line of system df.
type dfRow struct {
	Active      string
	Reclaimable string
	Size        string
	TotalCount  string
	Type        string
}

var dfHeaders = headers{"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"}

const dfTable = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"

func (a *app) dfCommand() *cobra.Command {
	var (
		format  string
		verbose bool
	)
	c := &cobra.Command{Use: "df [OPTIONS]", Args: noArgs}
	c.Flags().StringVar(&format, "format", "", formatHelp)
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "Show every object")
	c.RunE = func(*cobra.Command, []string) error {
		q := url.Values{}
		if verbose {
			q.Set("verbose", "1")
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		m := a.measure("Measuring", 0)
		use, err := askDiskUse(cl, q)
		m.end("", err)
		if err != nil {
			return err
		}
		if verbose {
			return a.printDiskObjects(use, format)
		}
		return printRows(a.out, &listing{format: format, table: dfTable, headers: dfHeaders}, use.rows())
	}
	return c
}

func (u *diskUse) rows() []dfRow {
	return []dfRow{
		dfRowOf("Images", u.ImageUsage), dfRowOf("Containers", u.ContainerUsage), dfRowOf("Local Volumes", u.VolumeUsage),
		dfRowOf("Build Cache", u.BuildCacheUsage),
	}
}

func dfRowOf[T any](kind string, n *usage[T]) dfRow {
	free := units.HumanSize(float64(n.Reclaimable))
	if n.TotalSize > 0 {
		free += fmt.Sprintf(" (%d%%)", n.Reclaimable*100/n.TotalSize)
	}
	return dfRow{
		Type: kind, TotalCount: strconv.FormatInt(n.TotalCount, 10), Active: strconv.FormatInt(n.ActiveCount, 10),
		Size: units.HumanSize(float64(n.TotalSize)), Reclaimable: free,
	}
}

// dfObjects are the rows of system df -v.
type dfObjects struct {
	Images     []imageRow
	Containers []containerRow
	Volumes    []volumeRow
	BuildCache []cacheRow
}

func (a *app) printDiskObjects(u *diskUse, format string) error {
	var o dfObjects
	now := time.Now()
	for i := range u.ImageUsage.Items {
		o.Images = append(o.Images, imageRows(&u.ImageUsage.Items[i], false, true, now)...)
	}
	for i := range u.ContainerUsage.Items {
		o.Containers = append(o.Containers, containerRowOf(&u.ContainerUsage.Items[i], true, now))
	}
	for i := range u.VolumeUsage.Items {
		o.Volumes = append(o.Volumes, volumeRowOf(&u.VolumeUsage.Items[i]))
	}
	caches := u.BuildCacheUsage.Items
	var cached int64
	for i := range caches {
		o.BuildCache = append(o.BuildCache, cacheRowOf(&caches[i], now))
		if !caches[i].Shared {
			cached += caches[i].Size
		}
	}
	if format != "" {
		o.complete()
		return printRows(a.out, &listing{format: format}, []dfObjects{o})
	}
	if err := a.printLine("Images space usage:\n"); err != nil {
		return err
	}
	err := printRows(a.out, &listing{headers: imageHeaders, table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}"}, o.Images)
	if err != nil {
		return err
	}
	if err := a.printLine("\nContainers space usage:\n"); err != nil {
		return err
	}
	err = printRows(a.out, &listing{headers: containerHeaders, table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}"}, o.Containers)
	if err != nil {
		return err
	}
	if err := a.printLine("\nLocal Volumes space usage:\n"); err != nil {
		return err
	}
	if err := printRows(a.out, &listing{headers: volumeHeaders, table: "{{.Name}}\t{{.Links}}\t{{.Size}}"}, o.Volumes); err != nil {
		return err
	}
	if err := a.printLine("\nBuild cache usage: " + units.HumanSize(float64(cached)) + "\n"); err != nil {
		return err
	}
	return printRows(a.out, &listing{headers: cacheHeaders, table: "{{.ID}}\t{{.Type}}\t{{.Size}}\t{{.Created}}\t{{.LastUsed}}\t{{.Usage}}\t{{.Shared}}"}, o.BuildCache)
}

// complete makes lists that have nothing in them empty ones: programs expect a list.
func (o *dfObjects) complete() {
	o.Images, o.Containers = append([]imageRow{}, o.Images...), append([]containerRow{}, o.Containers...)
	o.Volumes, o.BuildCache = append([]volumeRow{}, o.Volumes...), append([]cacheRow{}, o.BuildCache...)
}
