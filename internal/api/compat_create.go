package api

import (
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

// asOf gives a request the meaning that it had in its version: what came later is passed over, or refused where passing it over
// would be worse, and defaults are those of then.
func asOf(v version, req *container.CreateRequest) error {
	h := req.HostConfig
	if err := noNulls(h.Resources); err != nil {
		return err
	}
	if v < 40 && h.IpcMode == "" {
		h.IpcMode = container.IPCModeShareable
	}
	if v < 41 && h.PidsLimit != nil && *h.PidsLimit <= 0 {
		h.PidsLimit = nil
	}
	if v < 42 {
		h.ConsoleSize = [2]uint{}
	}
	if v < 43 {
		h.Annotations = nil
	}
	if v < 44 && req.Healthcheck != nil {
		req.Healthcheck.StartInterval = 0
	}
	if v < 56 {
		h.Umask = nil
	}
	if v < 44 && req.NetworkingConfig != nil {
		if len(req.NetworkingConfig.EndpointsConfig) > 1 {
			return fmt.Errorf("Container cannot be created with multiple network endpoints: %w", errdefs.ErrInvalidArgument)
		}
		for _, ep := range req.NetworkingConfig.EndpointsConfig {
			if ep != nil {
				ep.MacAddress = nil
			}
		}
	}
	for i := range h.Mounts {
		if err := mountAsOf(v, &h.Mounts[i]); err != nil {
			return err
		}
	}
	return nil
}

func mountAsOf(v version, m *mount.Mount) error {
	if v < 42 { // What did not fit the type was not looked at.
		if m.Type != mount.TypeBind {
			m.BindOptions = nil
		}
		if m.Type != mount.TypeVolume {
			m.VolumeOptions = nil
		}
		if m.Type != mount.TypeTmpfs {
			m.TmpfsOptions = nil
		}
	}
	if b := m.BindOptions; b != nil {
		if v < 40 {
			b.NonRecursive = false
		}
		if v < 42 {
			b.CreateMountpoint = false
		}
		if v < 44 && (b.ReadOnlyNonRecursive || b.ReadOnlyForceRecursive) {
			return tooNew("BindOptions.ReadOnlyNonRecursive", 44)
		}
	}
	if v < 44 && m.Type == mount.TypeBind { // Reading only was not for what is mounted below.
		if m.BindOptions == nil {
			m.BindOptions = new(mount.BindOptions)
		}
		m.BindOptions.ReadOnlyNonRecursive = m.ReadOnly
	}
	if o := m.VolumeOptions; v < 45 && o != nil && o.Subpath != "" {
		return tooNew("VolumeOptions.Subpath", 45)
	}
	if o := m.TmpfsOptions; v < 46 && o != nil && len(o.Options) > 0 {
		return tooNew("TmpfsOptions.Options", 46)
	}
	if v < 48 && m.Type == mount.TypeImage {
		return tooNew(`Mount type "Image"`, 48)
	}
	return nil
}

func tooNew(what string, since version) error {
	return fmt.Errorf("%s needs API v%s or newer: %w", what, since, errdefs.ErrInvalidArgument)
}

// noNulls refuses lists with null in them.
func noNulls(r container.Resources) error {
	bad := slices.Contains(r.BlkioWeightDevice, nil) || slices.Contains(r.Ulimits, nil)
	for _, list := range [][]*blkiodev.ThrottleDevice{
		r.BlkioDeviceReadBps, r.BlkioDeviceWriteBps, r.BlkioDeviceReadIOps, r.BlkioDeviceWriteIOps,
	} {
		bad = bad || slices.Contains(list, nil)
	}
	if bad {
		return fmt.Errorf("invalid JSON in the request: null in a list of limits: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}
