package cgroup

import (
	"context"
	"fmt"
	"math"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Update changes limits of a living group.
func (g *Group) Update(_ context.Context, r *specs.LinuxResources) (warnings []string, err error) {
	if r == nil {
		return nil, nil
	}
	if g.h.v2() {
		warnings, err = g.updateV2(r)
	} else {
		warnings, err = g.updateV1(r)
	}
	if err != nil {
		return warnings, fmt.Errorf("updating cgroup %s: %w", g.path, err)
	}
	return warnings, nil
}

func (g *Group) updateV1(r *specs.LinuxResources) ([]string, error) {
	list, err := settingsV1(r)
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		if g.h.of(s.controller) == nil {
			continue // warned of when it is written
		}
		if err := g.use(s.controller); err != nil {
			return nil, err
		}
	}
	warnings, err := g.apply(list)
	if err != nil || len(r.Devices) == 0 {
		return warnings, err
	}
	if g.h.of("devices") != nil {
		if err := g.use("devices"); err != nil {
			return warnings, err
		}
	}
	w, err := g.restrictDevicesV1(r.Devices)
	return append(warnings, w...), err
}

func (g *Group) updateV2(r *specs.LinuxResources) ([]string, error) {
	if m := r.Memory; m != nil && m.Limit == nil && m.Swap != nil && *m.Swap > 0 {
		// Memory with swap is only meant together with the limit of memory, which stays as it is.
		limit, err := g.h.unified.number(g.rel, "memory.max")
		if err != nil {
			return nil, err
		}
		with, current := *m, int64(min(limit, math.MaxInt64))
		with.Limit = &current
		merged := *r
		merged.Memory = &with
		r = &merged
	}
	if err := g.checkMemory(r.Memory); err != nil {
		return nil, err
	}
	list, warnings, err := settingsV2(r)
	if err != nil {
		return nil, err
	}
	w, err := g.apply(list)
	warnings = append(warnings, w...)
	if err != nil || len(r.Devices) == 0 || inUserNamespace() {
		return warnings, err
	}
	return warnings, g.restrictDevicesV2(r.Devices)
}

// checkMemory refuses, if that is asked for, a limit below what is in use: version 2 would end processes rather than refuse
// it, as version 1 does by itself.
func (g *Group) checkMemory(m *specs.LinuxMemory) error {
	if m == nil || m.Limit == nil || *m.Limit <= 0 || m.CheckBeforeUpdate == nil || !*m.CheckBeforeUpdate {
		return nil
	}
	used, err := g.h.unified.number(g.rel, "memory.current")
	if err != nil {
		return err
	}
	if used > uint64(*m.Limit) {
		return fmt.Errorf("memory limit %d is below the %d bytes in use: %w", *m.Limit, used, errdefs.ErrConflict)
	}
	return nil
}
