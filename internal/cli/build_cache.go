package cli

import (
	"fmt"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/build"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

// cachePrune are the flags of builder prune.
type cachePrune struct {
	pruneFlags
	all                        bool
	reserved, maxUsed, minFree sizeFlag
	verbose                    bool
}

func (a *app) builderPruneCommand() *cobra.Command {
	p := cachePrune{pruneFlags: pruneFlags{what: "This removes all build cache that no image uses."}}
	c := &cobra.Command{Use: "prune [OPTIONS]", Args: noArgs}
	p.declare(c.Flags())
	c.Flags().BoolVarP(&p.all, "all", "a", false, "Also what images use")
	c.Flags().Var(&p.reserved, "reserved-space", "Bytes to keep in any case")
	c.Flags().Var(&p.reserved, "keep-storage", "Former name of --reserved-space")
	c.Flags().Lookup("keep-storage").Hidden = true
	c.Flags().Var(&p.maxUsed, "max-used-space", "Bytes that the cache may have")
	c.Flags().Var(&p.minFree, "min-free-space", "Bytes that shall be free on the disk")
	c.Flags().BoolVar(&p.verbose, "verbose", false, "Accepted for docker's sake")
	c.Flags().Lookup("verbose").Hidden = true
	c.RunE = func(*cobra.Command, []string) error {
		if p.all {
			p.what = "This removes all build cache."
		}
		return a.prune(&p.pruneFlags, p.prune)
	}
	return c
}

func (p *cachePrune) prune(cl *client.Client, q url.Values) (pruned, error) {
	own := url.Values{}
	for k, v := range q {
		own[k] = v
	}
	if p.all {
		own.Set("all", "1")
	}
	for key, size := range map[string]sizeFlag{"reserved-space": p.reserved, "max-used-space": p.maxUsed, "min-free-space": p.minFree} {
		if size.n > 0 {
			own.Set(key, strconv.FormatInt(size.n, 10))
		}
	}
	r, err := client.CallJSON[build.CachePruneReport](cl, client.Post("/build/prune", own))
	if err != nil {
		return pruned{}, err
	}
	return pruned{"Deleted build cache objects:", r.CachesDeleted, r.SpaceReclaimed}, nil
}

// cacheRow is a line of buildx du.
type cacheRow struct {
	ID          string
	Type        string
	Description string
	Reclaimable string
	Shared      string
	Size        string
	Created     string
	LastUsed    string
	Usage       string
}

var cacheHeaders = headers{
	"ID": "ID", "Type": "TYPE", "Description": "DESCRIPTION", "Reclaimable": "RECLAIMABLE", "Shared": "SHARED", "Size": "SIZE",
	"Created": "CREATED", "LastUsed": "LAST ACCESSED", "Usage": "USAGE",
}

func cacheRowOf(r *build.CacheRecord, now time.Time) cacheRow {
	row := cacheRow{
		ID: r.ID, Type: r.Type, Description: r.Description, Reclaimable: strconv.FormatBool(!r.InUse), Shared: strconv.FormatBool(r.Shared),
		Size: units.HumanSize(float64(r.Size)), Usage: strconv.Itoa(r.UsageCount),
	}
	if r.Shared {
		row.Size += "*"
	}
	if !r.CreatedAt.IsZero() {
		row.Created = units.HumanDuration(now.Sub(r.CreatedAt)) + " ago"
	}
	if r.LastUsedAt != nil {
		row.LastUsed = units.HumanDuration(now.Sub(*r.LastUsedAt)) + " ago"
	}
	return row
}

func (a *app) cacheListCommand() *cobra.Command {
	var (
		format  string
		verbose bool
	)
	c := &cobra.Command{Use: "du [OPTIONS]", Args: noArgs}
	c.Flags().StringVar(&format, "format", "", formatHelp)
	c.Flags().BoolVar(&verbose, "verbose", false, "Show type and description, too")
	c.RunE = func(*cobra.Command, []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		use, err := askDiskUse(cl, url.Values{"type": {"build-cache"}, "verbose": {"1"}})
		if err != nil {
			return err
		}
		return a.printCache(use.BuildCacheUsage.Items, format, verbose)
	}
	return c
}

func (a *app) printCache(list []build.CacheRecord, format string, verbose bool) error {
	sort.SliceStable(list, func(i, j int) bool { return list[i].Size > list[j].Size })
	now := time.Now()
	rows := make([]cacheRow, len(list))
	var shared, total, free int64
	for i := range list {
		rows[i] = cacheRowOf(&list[i], now)
		if total += list[i].Size; list[i].Shared {
			shared += list[i].Size
		}
		if !list[i].InUse && !list[i].Shared {
			free += list[i].Size
		}
	}
	table := "{{.ID}}\t{{.Reclaimable}}\t{{.Size}}\t{{.LastUsed}}"
	if verbose {
		table = "{{.ID}}\t{{.Type}}\t{{.Reclaimable}}\t{{.Shared}}\t{{.Size}}\t{{.LastUsed}}\t{{.Usage}}\t{{.Description}}"
	}
	if err := printRows(a.out, &listing{format: format, table: table, headers: cacheHeaders}, rows); err != nil || format != "" {
		return err
	}
	var b strings.Builder
	if shared > 0 {
		fmt.Fprintf(&b, "Shared:\t\t%s\nPrivate:\t%s\n", units.HumanSize(float64(shared)), units.HumanSize(float64(total-shared)))
	}
	fmt.Fprintf(&b, "Reclaimable:\t%s\nTotal:\t\t%s", units.HumanSize(float64(free)), units.HumanSize(float64(total)))
	return a.printLine(b.String())
}
