package cdi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
)

// Request is what `--gpus` and `--device vendor.com/class=name` ask for, in the terms of Docker's DeviceRequest.
type Request struct {
	Driver string
	// Count of devices; -1 means all.
	Count        int
	IDs          []string
	Capabilities [][]string
}

// vendors are the kinds of the drivers that Docker's clients name.
var vendors = map[string]string{"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu", "intel": "intel.com/gpu"}

// Check refuses what no catalog could answer.
func (r *Request) Check() error {
	switch {
	case r.Driver == "cdi" && len(r.IDs) == 0:
		return invalidRequest("a device request of the driver cdi names no devices")
	case r.Driver == "cdi" && r.Count != 0:
		return invalidRequest("a device request of the driver cdi has a count")
	case r.Count > 0 && len(r.IDs) > 0 || r.Count < -1:
		return invalidRequest("cannot set both Count and DeviceIDs on device request")
	case r.Driver == "cdi" || r.gpu() && (r.Driver == "" || vendors[r.Driver] != ""):
		return nil
	}
	return &fault.Error{
		Code:  "device-driver",
		What:  fmt.Sprintf("could not select device driver %q with capabilities: %s", r.Driver, capabilities(r.Capabilities)),
		Cause: "kist gives devices by the Container Device Interface: drivers cdi, nvidia, amd and intel", Class: errdefs.ErrInvalidArgument,
	}
}

func invalidRequest(text string) error {
	return &fault.Error{Code: "device-request", What: text, Class: errdefs.ErrInvalidArgument}
}

func (r *Request) gpu() bool {
	return slices.ContainsFunc(r.Capabilities, func(set []string) bool { return slices.Contains(set, "gpu") })
}

// Choose turns a request into names of devices.
func (c *Catalog) Choose(r Request) ([]string, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	if r.Driver == "cdi" {
		return r.IDs, nil
	}
	kind := c.gpuKind(r.Driver)
	switch {
	case len(r.IDs) > 0:
		names := make([]string, len(r.IDs))
		for i, id := range r.IDs {
			if names[i] = id; !strings.Contains(id, "=") {
				names[i] = kind + "=" + id
			}
		}
		return names, nil
	case r.Count == 0:
		return nil, nil
	case r.Count < 0:
		return c.allOf(kind)
	}
	single := c.singles(kind)
	if len(single) == 0 {
		return nil, c.missing([]string{kind + "=0"})
	}
	if len(single) < r.Count {
		return nil, &fault.Error{
			Code: "device-count", What: fmt.Sprintf("cannot give the container %d GPUs", r.Count),
			Cause: fmt.Sprintf("the specifications have %d: %s", len(single), some(single)), Class: errdefs.ErrInvalidArgument,
		}
	}
	return single[:r.Count], nil
}

// allOf is the device that stands for all, or else each.
func (c *Catalog) allOf(kind string) ([]string, error) {
	all := kind + "=all"
	if _, ok := c.devices[all]; ok {
		return []string{all}, nil
	}
	if single := c.singles(kind); len(single) > 0 {
		return single, nil
	}
	return nil, c.missing([]string{all})
}

// singles are the devices of a kind that are named by number; those by other names are the same ones once more.
func (c *Catalog) singles(kind string) []string {
	return slices.DeleteFunc(c.Names(), func(n string) bool {
		k, name, _ := strings.Cut(n, "=")
		return k != kind || !digits(name)
	})
}

// gpuKind is the driver's kind; without a driver that of the one vendor whose GPUs are there.
func (c *Catalog) gpuKind(driver string) string {
	if kind, ok := vendors[driver]; ok {
		return kind
	}
	for _, v := range []string{"nvidia", "amd", "intel"} {
		if slices.ContainsFunc(c.Names(), func(n string) bool { return strings.HasPrefix(n, vendors[v]+"=") }) {
			return vendors[v]
		}
	}
	return vendors["nvidia"]
}

func capabilities(sets [][]string) string {
	parts := make([]string, len(sets))
	for i, s := range sets {
		parts[i] = "[" + strings.Join(s, " ") + "]"
	}
	return "[" + strings.Join(parts, " ") + "]"
}
