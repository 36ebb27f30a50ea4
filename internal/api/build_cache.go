package api

import (
	"context"
	"fmt"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	dockerbuild "github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/events"

	"github.com/kistdev/kist/internal/build"
	"github.com/kistdev/kist/internal/filter"
)

// contextsID is the record that stands for the files which clients have sent and which are kept for their next build.
const contextsID = "client-contexts"

// cacheRecords lists the build cache.
func (s *Server) cacheRecords(ctx context.Context) ([]dockerbuild.CacheRecord, error) {
	list := []dockerbuild.CacheRecord{}
	if s.Builder == nil {
		return list, nil
	}
	records, err := s.Builder.Usage(ctx, nil)
	if err != nil {
		return nil, err
	}
	for i := range records {
		r := &records[i]
		out := dockerbuild.CacheRecord{
			ID: r.ID, Parents: r.Parents, Type: r.Type, Description: r.Description, InUse: r.InUse, Shared: r.Shared, Size: r.Size,
			CreatedAt: r.Created, UsageCount: r.Uses,
		}
		if !r.LastUsed.IsZero() {
			out.LastUsedAt = &r.LastUsed
		}
		list = append(list, out)
	}
	if n := s.BuildKit.Usage(); n > 0 {
		list = append(list, dockerbuild.CacheRecord{ID: contextsID, Type: "source.local", Description: "files sent by clients", Size: n})
	}
	return list, nil
}

// cacheUsage adds records up as docker does: what an image shares is the image's.
func cacheUsage(list []dockerbuild.CacheRecord, verbose bool) *dockerbuild.DiskUsage {
	u := &dockerbuild.DiskUsage{TotalCount: int64(len(list))}
	for i := range list {
		c := &list[i]
		if c.InUse {
			u.ActiveCount++
		}
		if c.Shared {
			continue
		}
		u.TotalSize += c.Size
		if !c.InUse {
			u.Reclaimable += c.Size
		}
	}
	if verbose {
		u.Items = list
	}
	return u
}

// buildPrune serves docker builder prune.
func (s *Server) buildPrune(w http.ResponseWriter, r *request) error {
	o := build.PruneOptions{All: r.boolean("all")}
	f, err := r.filters()
	if err != nil {
		return err
	}
	if err := pruneFilters(f, time.Now(), &o); err != nil {
		return err
	}
	for key, to := range map[string]*int64{
		"keep-storage": &o.Keep, "reserved-space": &o.Keep, "max-used-space": &o.MaxUsed, "min-free-space": &o.MinFree,
	} {
		n, err := r.integer(key)
		if err != nil {
			return err
		}
		if n != nil {
			*to = int64(*n)
		}
	}
	report := dockerbuild.CachePruneReport{CachesDeleted: []string{}}
	freed, err := s.Builder.Prune(r.Context(), o, func(rec build.Record) { report.CachesDeleted = append(report.CachesDeleted, rec.ID) })
	if err != nil {
		return err
	}
	// What clients sent is fetched again when it is needed: it goes with everything else.
	if len(o.Filters) == 0 && o.KeepFor == 0 && o.Keep == 0 && o.MaxUsed == 0 && o.MinFree == 0 {
		sent, err := s.BuildKit.Prune(r.Context())
		if err != nil {
			return err
		}
		if sent > 0 {
			freed += sent
			report.CachesDeleted = append(report.CachesDeleted, contextsID)
		}
	}
	report.SpaceReclaimed = uint64(max(freed, 0))
	s.Events.Emit(events.BuilderEventType, events.ActionPrune, "", map[string]string{"reclaimed": strconv.FormatUint(report.SpaceReclaimed, 10)})
	return writeJSON(w, http.StatusOK, report)
}

// pruneFilters reads docker's filters: a record must match all of them, and must not have been used for a time.
func pruneFilters(f filter.Args, now time.Time, o *build.PruneOptions) error {
	var terms []string
	for key, values := range f {
		switch key {
		case "until", "unused-for":
			if len(values) != 1 {
				return fmt.Errorf("filter %q takes one value: %w", key, errdefs.ErrInvalidArgument)
			}
			t, err := pruneTime(values[0], now)
			if err != nil {
				return err
			}
			o.KeepFor = now.Sub(t)
			continue
		case "id", "parent", "type", "description", "inuse", "shared", "private":
		default:
			return fmt.Errorf("invalid filter %q: %w", key, errdefs.ErrInvalidArgument)
		}
		op := "=="
		if key == "id" || key == "description" {
			op = "~="
		}
		for _, v := range values {
			terms = append(terms, key+op+v)
		}
	}
	sort.Strings(terms)
	if len(terms) > 0 {
		o.Filters = []string{strings.Join(terms, ",")}
	}
	return nil
}

// pruneTime reads how long ago something was, as in 24h, or when, as seconds since 1970 or by RFC 3339.
func pruneTime(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(n, 0), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	return time.Time{}, fmt.Errorf("invalid until %q: want a duration as 24h, or a time: %w", s, errdefs.ErrInvalidArgument)
}
