package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/volume"

	"github.com/kistdev/kist/internal/client"
)

// usage is one kind's part of the disk.
type usage[T any] struct {
	TotalCount, ActiveCount, TotalSize, Reclaimable int64
	Items                                           []T
}

// diskUse is what fills the disk.
type diskUse struct {
	ImageUsage      *usage[image.Summary]
	ContainerUsage  *usage[container.Summary]
	VolumeUsage     *usage[volume.Volume]
	BuildCacheUsage *usage[build.CacheRecord]
}

// oldDiskUse is how daemons before API 1.52 tell it: they leave the counting to their clients.
type oldDiskUse struct {
	LayersSize int64
	Images     []image.Summary
	Containers []container.Summary
	Volumes    []volume.Volume
	BuildCache []build.CacheRecord
}

// askDiskUse asks the daemon, of any API version.
func askDiskUse(cl *client.Client, q url.Values) (*diskUse, error) {
	raw, err := rawAnswer(cl, client.Get("/system/df", q))
	if err != nil {
		return nil, err
	}
	var use diskUse
	var old oldDiskUse
	if err := errors.Join(json.Unmarshal(raw, &use), json.Unmarshal(raw, &old)); err != nil {
		return nil, fmt.Errorf("decode the daemon's answer: %w", err)
	}
	use.add(&old)
	return &use, nil
}

// add counts what the daemon has not counted.
func (u *diskUse) add(old *oldDiskUse) {
	tally(&u.ImageUsage, old.Images, func(i *image.Summary) (int64, bool) {
		return i.Size - max(i.SharedSize, 0), i.Containers > 0
	})
	if n := u.ImageUsage; old.LayersSize > 0 { // With the layers that images share, which is free when none of them is used.
		n.TotalSize, n.Reclaimable = old.LayersSize, max(old.LayersSize-(n.TotalSize-n.Reclaimable), 0)
	}
	tally(&u.ContainerUsage, old.Containers, func(c *container.Summary) (int64, bool) {
		switch c.State {
		case container.StateRunning, container.StatePaused, container.StateRestarting:
			return c.SizeRw, true
		default:
			return c.SizeRw, false
		}
	})
	tally(&u.VolumeUsage, old.Volumes, func(v *volume.Volume) (int64, bool) {
		if v.UsageData == nil {
			return 0, false
		}
		return max(v.UsageData.Size, 0), v.UsageData.RefCount > 0
	})
	tally(&u.BuildCacheUsage, old.BuildCache, func(r *build.CacheRecord) (int64, bool) { return r.Size, r.InUse })
}

// tally makes a usage of a list, unless there is one; of tells an item's size, and whether it is in use.
func tally[T any](n **usage[T], list []T, of func(*T) (size int64, active bool)) {
	if *n != nil {
		if len(list) > 0 {
			(*n).Items = list
		}
		return
	}
	made := &usage[T]{TotalCount: int64(len(list)), Items: list}
	for i := range list {
		size, active := of(&list[i])
		made.TotalSize += size
		if active {
			made.ActiveCount++
		} else {
			made.Reclaimable += size
		}
	}
	*n = made
}
