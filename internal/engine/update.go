package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/blkiodev"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/kistdev/kist/internal/cgroup"
	"github.com/kistdev/kist/internal/spec"
)

// Update changes limits and the restart policy; of one that runs, at once.
func (e *Engine) Update(ctx context.Context, name string, u docker.UpdateConfig) (docker.UpdateResponse, error) {
	var r docker.UpdateResponse
	c, err := e.index.find(name)
	if err != nil {
		return r, err
	}
	if err := docker.ValidateRestartPolicy(u.RestartPolicy); err != nil {
		return r, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if err := c.op.acquire(ctx); err != nil {
		return r, err
	}
	defer c.op.release()
	d, st := c.look()
	if st.Phase == removing {
		return r, e.index.missing(name)
	}
	if d.HostConfig.AutoRemove && !u.RestartPolicy.IsNone() {
		return r, fmt.Errorf("Restart policy cannot be updated because AutoRemove is enabled for the container: %w", errdefs.ErrConflict)
	}
	h := *d.HostConfig
	h.Resources = overlaid(h.Resources, u.Resources)
	if u.RestartPolicy.Name != "" {
		h.RestartPolicy = u.RestartPolicy
	}
	checked, warnings, err := spec.ValidateUpdate(h.Resources, e.host)
	if err != nil {
		return r, err
	}
	r.Warnings = warnings
	changed := *d
	changed.HostConfig = &h
	if st.Phase.alive() {
		more, err := e.applyLimits(ctx, st, withLifted(checked, d.HostConfig.Resources, e.host.Controls))
		if err != nil {
			return r, fmt.Errorf("Cannot update container %s: %w", c.id, err) //nolint:staticcheck // docker's words
		}
		r.Warnings = append(r.Warnings, more...)
	}
	if err := e.redefine(c, &changed); err != nil {
		return r, err
	}
	e.emit(c, events.ActionUpdate, nil)
	return r, nil
}

func (e *Engine) applyLimits(ctx context.Context, st state, r docker.Resources) ([]string, error) {
	numbers, err := blockNumbers(r)
	if err != nil {
		return nil, err
	}
	limits, err := spec.Resources(r, numbers)
	if err != nil {
		return nil, err
	}
	g, err := cgroup.Load(st.Cgroup)
	if err != nil {
		return nil, err
	}
	limits.Devices = nil // They do not change, and writing them anew would be felt.
	return g.Update(ctx, limits)
}

// overlaid is old with what is set in next.
func overlaid(old, next docker.Resources) docker.Resources {
	set := func(to *int64, from int64) {
		if from != 0 {
			*to = from
		}
	}
	r := old
	set(&r.CPUShares, next.CPUShares)
	set(&r.CPUPeriod, next.CPUPeriod)
	set(&r.CPUQuota, next.CPUQuota)
	set(&r.NanoCPUs, next.NanoCPUs)
	set(&r.CPURealtimePeriod, next.CPURealtimePeriod)
	set(&r.CPURealtimeRuntime, next.CPURealtimeRuntime)
	set(&r.Memory, next.Memory)
	set(&r.MemorySwap, next.MemorySwap)
	set(&r.MemoryReservation, next.MemoryReservation)
	if next.BlkioWeight != 0 {
		r.BlkioWeight = next.BlkioWeight
	}
	if next.CpusetCpus != "" {
		r.CpusetCpus = next.CpusetCpus
	}
	if next.CpusetMems != "" {
		r.CpusetMems = next.CpusetMems
	}
	for to, from := range map[*[]*blkiodev.ThrottleDevice][]*blkiodev.ThrottleDevice{
		&r.BlkioDeviceReadBps: next.BlkioDeviceReadBps, &r.BlkioDeviceWriteBps: next.BlkioDeviceWriteBps,
		&r.BlkioDeviceReadIOps: next.BlkioDeviceReadIOps, &r.BlkioDeviceWriteIOps: next.BlkioDeviceWriteIOps,
	} {
		if from != nil { // An empty list lifts them all.
			*to = from
		}
	}
	if next.BlkioWeightDevice != nil {
		r.BlkioWeightDevice = next.BlkioWeightDevice
	}
	if next.PidsLimit != nil {
		r.PidsLimit = next.PidsLimit
	}
	// The one form of a limit on cpu time takes the other's place.
	if next.NanoCPUs != 0 {
		r.CPUPeriod, r.CPUQuota = 0, 0
	} else if next.CPUPeriod != 0 || next.CPUQuota != 0 {
		r.NanoCPUs = 0
	}
	return r
}

// withLifted adds what lifts the limits that devices had before and have no longer: the kernel keeps what it is not told of.
func withLifted(r, before docker.Resources, can *spec.Controls) docker.Resources {
	throttle := func(now, old []*blkiodev.ThrottleDevice) []*blkiodev.ThrottleDevice {
		now = slices.Clone(now)
		for _, o := range old {
			if !slices.ContainsFunc(now, func(n *blkiodev.ThrottleDevice) bool { return n.Path == o.Path }) {
				now = append(now, &blkiodev.ThrottleDevice{Path: o.Path})
			}
		}
		return now
	}
	if can == nil || can.BlkioThrottle {
		r.BlkioDeviceReadBps = throttle(r.BlkioDeviceReadBps, before.BlkioDeviceReadBps)
		r.BlkioDeviceWriteBps = throttle(r.BlkioDeviceWriteBps, before.BlkioDeviceWriteBps)
		r.BlkioDeviceReadIOps = throttle(r.BlkioDeviceReadIOps, before.BlkioDeviceReadIOps)
		r.BlkioDeviceWriteIOps = throttle(r.BlkioDeviceWriteIOps, before.BlkioDeviceWriteIOps)
	}
	if can != nil && !can.BlkioWeightDevice {
		return r
	}
	r.BlkioWeightDevice = slices.Clone(r.BlkioWeightDevice)
	for _, o := range before.BlkioWeightDevice {
		if !slices.ContainsFunc(r.BlkioWeightDevice, func(n *blkiodev.WeightDevice) bool { return n.Path == o.Path }) {
			r.BlkioWeightDevice = append(r.BlkioWeightDevice, &blkiodev.WeightDevice{Path: o.Path})
		}
	}
	return r
}
