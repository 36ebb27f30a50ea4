package runstep

import (
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kistdev/kist/internal/cdi"
	"github.com/kistdev/kist/internal/fault"
)

// devices gives the command the devices that it asks for (RUN --device), as far as the client has granted them. One that is not
// there is left out where that is allowed.
func (s *step) devices(built *specs.Spec) error {
	if len(s.Op.CdiDevices) == 0 {
		return nil
	}
	catalog := cdi.Read(s.r.cfg.DeviceDirs)
	here, granted := catalog.Names(), s.grantedDevices(catalog.Names())
	var names []string
	for _, d := range s.Op.CdiDevices {
		name, renamed := d.GetName(), false
		if s.Devices != nil && s.Devices.Devices[name] != "" { // --allow device=THIS,alias=NAME
			name, renamed = s.Devices.Devices[name], true
		}
		found := devicesOf(name, here)
		if len(found) == 0 {
			if d.GetOptional() {
				continue
			}
			found = []string{name} // Whose absence the catalog explains.
		}
		for _, one := range found {
			if slices.Contains(here, one) && !renamed && !slices.Contains(granted, one) {
				return deviceMissing(one)
			}
		}
		names = append(names, found...)
	}
	n := len(built.Mounts)
	if err := catalog.Apply(built, names); err != nil {
		return err
	}
	s.mounts = append(s.mounts, built.Mounts[min(n, len(built.Mounts)):]...) // Their mount points do not belong to the layer.
	return nil
}

// grantedDevices are those that the client allows.
func (s *step) grantedDevices(here []string) []string {
	switch {
	case s.Devices == nil:
		return nil
	case s.Devices.All:
		return here
	}
	var granted []string
	for name, of := range s.Devices.Devices {
		if of == "" {
			granted = append(granted, devicesOf(name, here)...)
		}
	}
	return granted
}

// devicesOf finds the devices that a name stands for: one, the first of a kind (vendor.com/class), or all of it
// (vendor.com/class=*).
func devicesOf(name string, here []string) []string {
	kind, one, _ := strings.Cut(name, "=")
	var found []string
	for _, d := range here {
		of, _, _ := strings.Cut(d, "=")
		if d == name || of == kind && (one == "*" || one == "" && len(found) == 0) {
			found = append(found, d)
		}
	}
	return found
}

func deviceMissing(name string) error {
	return &fault.Error{
		Code: "entitlement-missing", What: "the step needs the device " + name, Cause: "the build was not given it",
		Try: "build with --allow device=" + name, Class: errdefs.ErrPermissionDenied,
	}
}
