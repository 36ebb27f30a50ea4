package engine

import (
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/system"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kistdev/kist/internal/cdi"
)

// deviceRequest is a request of Docker's in the words of package cdi.
func deviceRequest(r docker.DeviceRequest) cdi.Request {
	return cdi.Request{Driver: r.Driver, Count: r.Count, IDs: r.DeviceIDs, Capabilities: r.Capabilities}
}

// checkDeviceRequests refuses, when a container is made, what no specification of a device could give it.
func checkDeviceRequests(requests []docker.DeviceRequest) error {
	for _, r := range requests {
		one := deviceRequest(r)
		if err := one.Check(); err != nil {
			return err
		}
	}
	return nil
}

// inject gives the container the devices that it asked for by name. The specifications of devices are read now: a device
// that came since the last start can be had.
func (e *Engine) inject(requests []docker.DeviceRequest, s *specs.Spec) error {
	if len(requests) == 0 {
		return nil
	}
	catalog := cdi.Read(e.cfg.DeviceDirs)
	var names []string
	for _, r := range requests {
		chosen, err := catalog.Choose(deviceRequest(r))
		if err != nil {
			return err
		}
		names = append(names, chosen...)
	}
	return catalog.Apply(s, names)
}

// fillDevices tells of the devices that can be asked for, and of specifications that cannot be used.
func (e *Engine) fillDevices(i *system.Info) {
	i.CDISpecDirs = append([]string{}, e.cfg.DeviceDirs...)
	catalog := cdi.Read(e.cfg.DeviceDirs)
	for _, name := range catalog.Names() {
		i.DiscoveredDevices = append(i.DiscoveredDevices, system.DeviceInfo{Source: "cdi", ID: name})
	}
	for _, p := range catalog.Problems {
		i.Warnings = append(i.Warnings, "WARNING: "+p.Error())
	}
}
