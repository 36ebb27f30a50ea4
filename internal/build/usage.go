package build

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/runstep"
)

// Record is one entry of the build cache.
type Record struct {
	ID          string
	Parents     []string
	Type        string // BuildKit's: "regular", "exec.cachemount", "source.local", ...
	Description string
	InUse       bool
	// Shared says that an image has the same layers: removing the entry wins nothing.
	Shared   bool
	Mutable  bool
	Size     int64
	Created  time.Time
	LastUsed time.Time
	Uses     int

	key    digest.Digest                   // of a step's record
	remove func(ctx context.Context) error // of what is no step's
}

// PruneOptions say what may go.
type PruneOptions struct {
	// All removes what an image shares, too.
	All bool
	// Filters are BuildKit's: each "field==value" ("id", "type", "parents", "description", "inuse", "shared", "private",
	// "mutable"; operators ==, !=, ~=), several joined by commas; what one of the strings matches may go.
	Filters []string
	// KeepFor spares what was used within this time.
	KeepFor time.Duration
	// Keep bytes; the rest goes, the least recently used first.
	Keep int64
	// MaxUsed is the highest use of bytes allowed, MinFree what shall be free on the file system; 0 means no such limit.
	MaxUsed, MinFree int64
}

// Usage lists the build cache, the most recently used first.
func (b *Builder) Usage(ctx context.Context, filters []string) ([]Record, error) {
	match, err := parseFilters(filters)
	if err != nil {
		return nil, err
	}
	all, err := b.usage(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(r Record) bool { return !match(&r) }), nil
}

// usage is everything. A layer that several steps made is counted with the oldest of them.
func (b *Builder) usage(ctx context.Context) ([]Record, error) {
	needs := b.cfg.Images.Needs()
	busy := b.busy()
	rows := b.cache.snapshot()
	keys := make([]digest.Digest, 0, len(rows))
	for key := range rows {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(x, y digest.Digest) int {
		return cmp.Or(rows[x].Created.Compare(rows[y].Created), cmp.Compare(x, y))
	})
	counted := map[digest.Digest]bool{}
	all := make([]Record, 0, len(rows))
	for _, key := range keys {
		row := rows[key]
		r := Record{
			ID: shortID(key), key: key, Type: row.Kind, Description: row.Name, InUse: busy[key],
			Created: row.Created, LastUsed: row.Used, Uses: row.Uses,
		}
		for _, p := range row.Parents {
			if rows[p] != nil {
				r.Parents = append(r.Parents, shortID(p))
			}
		}
		made := 0
		row.layers(func(d digest.Digest) bool {
			made++
			r.Shared = r.Shared || needs(d)
			b.cfg.Layers.Parts(d, func(part digest.Digest, n int64) {
				if !counted[part] {
					counted[part] = true
					r.Size += n
				}
			})
			return true
		})
		all = append(all, r)
	}
	for _, list := range []func(context.Context) ([]Record, error){b.mountRecords, b.fetchRecords} {
		more, err := list(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	slices.SortStableFunc(all, func(x, y Record) int { return y.LastUsed.Compare(x.LastUsed) })
	return all, nil
}

// shortID is how a record is called: short enough for a table.
func shortID(key digest.Digest) string { return key.Encoded()[:25] }

// busy are the records that builds under way use.
func (b *Builder) busy() map[digest.Digest]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := map[digest.Digest]bool{}
	for j := range b.jobs {
		j.mu.Lock()
		for _, key := range j.used {
			all[key] = true
		}
		j.mu.Unlock()
	}
	return all
}

// Prune removes what the options let go, and the layers that nothing needs then. report, if not nil, is told each record
// that went.
func (b *Builder) Prune(ctx context.Context, o PruneOptions, report func(Record)) (int64, error) {
	match, err := parseFilters(o.Filters)
	if err != nil {
		return 0, err
	}
	all, err := b.usage(ctx)
	if err != nil {
		return 0, err
	}
	var total, won int64
	for _, r := range all {
		if !r.Shared {
			total += r.Size
		}
	}
	spare, err := b.spare(o, total)
	if err != nil {
		return 0, err
	}
	slices.Reverse(all) // The least recently used first.
	var gone []Record
	for _, r := range all {
		if spare >= 0 && total <= spare {
			break
		}
		if r.InUse || r.Shared && !o.All || !match(&r) || time.Since(r.LastUsed) < o.KeepFor {
			continue
		}
		if !r.Shared {
			total -= r.Size
			won += r.Size
		}
		gone = append(gone, r)
	}
	if err := b.drop(ctx, gone); err != nil {
		return 0, err
	}
	for _, r := range gone {
		if report != nil {
			report(r)
		}
	}
	return won, nil
}

// spare is how many bytes may stay; -1 means that size spares nothing.
func (b *Builder) spare(o PruneOptions, total int64) (int64, error) {
	if o.Keep == 0 && o.MaxUsed == 0 && o.MinFree == 0 {
		return -1, nil
	}
	if o.MaxUsed == 0 && o.MinFree == 0 {
		return o.Keep, nil
	}
	spare := total
	if o.MaxUsed > 0 {
		spare = min(spare, o.MaxUsed)
	}
	if o.MinFree > 0 {
		free, _, err := b.disk()
		if err != nil {
			return 0, err
		}
		spare = min(spare, total-max(o.MinFree-free, 0))
	}
	return max(spare, o.Keep, 0), nil
}

// drop takes records away, and then what only they needed.
func (b *Builder) drop(ctx context.Context, gone []Record) error {
	if len(gone) == 0 {
		return nil
	}
	keys := make([]digest.Digest, 0, len(gone))
	for _, r := range gone {
		if r.remove != nil {
			// What a build has begun to use meanwhile stays.
			if err := r.remove(ctx); err != nil && !errdefs.IsConflict(err) && !errdefs.IsNotFound(err) {
				return err
			}
			continue
		}
		keys = append(keys, r.key)
	}
	b.cache.remove(keys...)
	if _, err := b.cfg.Images.Collect(ctx); err != nil {
		return fmt.Errorf("collect the build cache's layers: %w", err)
	}
	return nil
}

// disk is what is free on the file system of the builder, and how large it is.
func (b *Builder) disk() (free, size int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(b.cfg.Dir, &st); err != nil {
		return 0, 0, fmt.Errorf("look at the disk: %w", err)
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil //nolint:gosec // Disks are smaller.
}

// Mounts are the directories of cache mounts; *runstep.Caches.
type Mounts interface {
	List(ctx context.Context) ([]runstep.CacheInfo, error)
	Prune(ctx context.Context, key string) (int64, error)
}

// mountRecords are the cache mounts.
func (b *Builder) mountRecords(ctx context.Context) ([]Record, error) {
	if b.cfg.Mounts == nil {
		return nil, nil
	}
	list, err := b.cfg.Mounts.List(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]Record, 0, len(list))
	for _, c := range list {
		all = append(all, Record{
			ID: shortID(digest.FromString(c.Key)), Type: "exec.cachemount", Description: "cache mount " + c.ID,
			InUse: c.InUse, Mutable: true, Size: c.Size, Created: c.Created, LastUsed: c.Used,
			remove: func(ctx context.Context) error {
				_, err := b.cfg.Mounts.Prune(ctx, c.Key)
				return err
			},
		})
	}
	return all, nil
}

// fetchRecords are the downloads that are kept.
func (b *Builder) fetchRecords(ctx context.Context) ([]Record, error) {
	if b.cfg.Fetch == nil {
		return nil, nil
	}
	list, err := b.cfg.Fetch.List(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]Record, 0, len(list))
	for _, k := range list {
		all = append(all, Record{
			ID: shortID(digest.FromString(k.Key)), Type: "source.http", Description: "download " + k.Key,
			Mutable: true, Size: k.Size, Created: k.Used, LastUsed: k.Used,
			remove: func(ctx context.Context) error { return b.cfg.Fetch.Prune(ctx, k.Key) },
		})
	}
	return all, nil
}
