package cli

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

// diskUse is the daemon's answer in the form of any API version.
type diskUse struct {
	system.DiskUsage
	LayersSize int64
	Images     []image.Summary
	Containers []container.Summary
	Volumes    []volume.Volume
	BuildCache []build.CacheRecord
}

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
		raw, err := rawAnswer(cl, client.Get("/system/df", q))
		if err != nil {
			return err
		}
		var use diskUse
		if err := json.Unmarshal(raw, &use); err != nil {
			return fmt.Errorf("decode the daemon's answer: %w", err)
		}
		if verbose {
			return a.printDiskObjects(&use, format)
		}
		return printRows(a.out, &listing{format: format, table: dfTable, headers: dfHeaders}, use.rows())
	}
	return c
}

// dfCount is one kind's part of the disk.
type dfCount struct{ total, active, size, free int64 }

func (u *diskUse) rows() []dfRow {
	return []dfRow{
		dfRowOf("Images", u.images()), dfRowOf("Containers", u.containers()), dfRowOf("Local Volumes", u.volumes()),
		dfRowOf("Build Cache", u.cache()),
	}
}

func dfRowOf(kind string, c dfCount) dfRow {
	free := units.HumanSize(float64(c.free))
	if c.size > 0 {
		free += fmt.Sprintf(" (%d%%)", c.free*100/c.size)
	}
	return dfRow{
		Type: kind, TotalCount: strconv.FormatInt(c.total, 10), Active: strconv.FormatInt(c.active, 10),
		Size: units.HumanSize(float64(c.size)), Reclaimable: free,
	}
}

func (u *diskUse) images() dfCount {
	if n := u.ImageUsage; n != nil {
		return dfCount{n.TotalCount, n.ActiveCount, n.TotalSize, n.Reclaimable}
	}
	c := dfCount{total: int64(len(u.Images)), size: u.LayersSize}
	var used int64
	for _, i := range u.Images {
		if i.Containers > 0 {
			c.active++
			used += i.Size - max(i.SharedSize, 0)
		}
	}
	c.free = max(c.size-used, 0)
	return c
}

func (u *diskUse) containers() dfCount {
	if n := u.ContainerUsage; n != nil {
		return dfCount{n.TotalCount, n.ActiveCount, n.TotalSize, n.Reclaimable}
	}
	c := dfCount{total: int64(len(u.Containers))}
	for _, x := range u.Containers {
		c.size += x.SizeRw
		switch x.State {
		case container.StateRunning, container.StatePaused, container.StateRestarting:
			c.active++
		default:
			c.free += x.SizeRw
		}
	}
	return c
}

func (u *diskUse) volumes() dfCount {
	if n := u.VolumeUsage; n != nil {
		return dfCount{n.TotalCount, n.ActiveCount, n.TotalSize, n.Reclaimable}
	}
	c := dfCount{total: int64(len(u.Volumes))}
	for _, v := range u.Volumes {
		if v.UsageData == nil {
			continue
		}
		size := max(v.UsageData.Size, 0)
		c.size += size
		if v.UsageData.RefCount > 0 {
			c.active++
		} else {
			c.free += size
		}
	}
	return c
}

func (u *diskUse) cache() dfCount {
	if n := u.BuildCacheUsage; n != nil {
		return dfCount{n.TotalCount, n.ActiveCount, n.TotalSize, n.Reclaimable}
	}
	c := dfCount{total: int64(len(u.BuildCache))}
	for _, r := range u.BuildCache {
		c.size += r.Size
		if r.InUse {
			c.active++
		} else {
			c.free += r.Size
		}
	}
	return c
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
	for _, i := range slices.Concat(u.Images, itemsOf(u.ImageUsage != nil && len(u.Images) == 0, func() []image.Summary { return u.ImageUsage.Items })) {
		o.Images = append(o.Images, imageRows(&i, false, true, now)...)
	}
	for _, c := range slices.Concat(u.Containers, itemsOf(u.ContainerUsage != nil && len(u.Containers) == 0, func() []container.Summary { return u.ContainerUsage.Items })) {
		o.Containers = append(o.Containers, containerRowOf(&c, true, now))
	}
	for _, v := range slices.Concat(u.Volumes, itemsOf(u.VolumeUsage != nil && len(u.Volumes) == 0, func() []volume.Volume { return u.VolumeUsage.Items })) {
		o.Volumes = append(o.Volumes, volumeRowOf(&v))
	}
	caches := u.cacheItems()
	var cached int64
	for i := range caches {
		o.BuildCache = append(o.BuildCache, cacheRowOf(&caches[i], now))
		if !caches[i].Shared {
			cached += caches[i].Size
		}
	}
	if format != "" {
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

func itemsOf[T any](ok bool, get func() []T) []T {
	if !ok {
		return nil
	}
	return get()
}
