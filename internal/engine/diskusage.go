package engine

import (
	"context"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/volume"
)

// DiskUsage is docker system df.
type DiskUsage struct {
	Images     []image.Summary
	Containers []docker.Summary
	Volumes    []volume.Volume
	// LayersSize is the bytes of all images, shared layers counted once; Reclaimable what removal of unused ones gives back.
	LayersSize, Reclaimable int64
	// Logs is the bytes of containers' logs, counted in Containers' SizeRw as well.
	Logs int64
}

// DiskUsage adds up what everything occupies.
func (e *Engine) DiskUsage(ctx context.Context) (*DiskUsage, error) {
	var u DiskUsage
	var err error
	if u.Images, err = e.cfg.Images.List(ctx, false, true, nil); err != nil {
		return nil, err
	}
	if u.LayersSize, u.Reclaimable, err = e.cfg.Images.Usage(ctx); err != nil {
		return nil, err
	}
	list, err := e.List(ctx, ListOptions{All: true, Size: true})
	if err != nil {
		return nil, err
	}
	for i := range list {
		u.Containers = append(u.Containers, list[i].Summary)
	}
	for _, n := range e.entries() {
		u.Logs += e.logSize(n.def)
	}
	if u.Volumes, _, err = e.cfg.Volumes.List(ctx, nil); err != nil {
		return nil, err
	}
	users := e.volumeUsers()
	for i := range u.Volumes {
		v := &u.Volumes[i]
		size, err := e.cfg.Volumes.Size(v.Name)
		if err != nil {
			size = -1 // Docker's word for unknown.
		}
		v.UsageData = &volume.UsageData{RefCount: users[v.Name], Size: size}
	}
	return &u, nil
}

// volumeUsers counts the containers that use each volume.
func (e *Engine) volumeUsers() map[string]int64 {
	users := map[string]int64{}
	for _, c := range e.index.all() {
		d, _ := c.look()
		seen := map[string]bool{}
		for _, m := range d.Mounts {
			if m.Type == mount.TypeVolume && !seen[m.Name] {
				seen[m.Name] = true
				users[m.Name]++
			}
		}
	}
	return users
}
