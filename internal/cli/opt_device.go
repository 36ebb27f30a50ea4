package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
)

// deviceMode tells that s is made of r, w and m, each at most once.
func deviceMode(s string) bool {
	seen := map[rune]bool{}
	for _, r := range s {
		if !strings.ContainsRune("rwm", r) || seen[r] {
			return false
		}
		seen[r] = true
	}
	return s != ""
}

// parseDevice reads host[:container][:mode].
func parseDevice(s string) (container.DeviceMapping, error) {
	d := container.DeviceMapping{CgroupPermissions: "rwm"}
	fields := strings.Split(s, ":")
	switch {
	case len(fields) > 3:
		return d, fmt.Errorf("invalid device specification: %s", s)
	case len(fields) == 3:
		d.CgroupPermissions = fields[2]
		d.PathInContainer = fields[1]
		if !deviceMode(fields[2]) {
			return d, fmt.Errorf("bad mode specified: %s", fields[2])
		}
	case len(fields) == 2 && deviceMode(fields[1]):
		d.CgroupPermissions = fields[1]
	case len(fields) == 2:
		d.PathInContainer = fields[1]
	}
	d.PathOnHost = fields[0]
	if d.PathInContainer == "" {
		d.PathInContainer = d.PathOnHost
	}
	if !path.IsAbs(d.PathInContainer) {
		return d, fmt.Errorf("%s is not an absolute path", d.PathInContainer)
	}
	return d, nil
}

// cdiDevice tells that a name is one of the Container Device Interface: vendor/class=name.
func cdiDevice(s string) bool {
	kind, name, ok := strings.Cut(s, "=")
	vendor, class, slash := strings.Cut(kind, "/")
	return ok && slash && vendor != "" && class != "" && name != "" && !strings.HasPrefix(s, "/")
}

// splitDevices reads --device into mappings and names of devices to request.
func splitDevices(specs []string) (maps []container.DeviceMapping, cdi []string, err error) {
	maps = []container.DeviceMapping{}
	for _, s := range specs {
		if cdiDevice(s) {
			cdi = append(cdi, s)
			continue
		}
		d, err := parseDevice(s)
		if err != nil {
			return nil, nil, err
		}
		maps = append(maps, d)
	}
	return maps, cdi, nil
}

func checkDeviceRule(s string) (string, error) {
	if regexp.MustCompile(`^[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}$`).MatchString(s) {
		return s, nil
	}
	return "", fmt.Errorf("invalid device cgroup format '%s'", s)
}

// weightFlag collects device:weight.
type weightFlag struct{ values []*blkiodev.WeightDevice }

func (f *weightFlag) String() string { return "" }
func (f *weightFlag) Type() string   { return "list" }
func (f *weightFlag) Set(s string) error {
	dev, v, err := cutDevice(s)
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil || n > 0 && (n < 10 || n > 1000) {
		return fmt.Errorf("invalid weight for device: %s", s)
	}
	f.values = append(f.values, &blkiodev.WeightDevice{Path: dev, Weight: uint16(n)})
	return nil
}

// rateFlag collects device:rate, in bytes or in operations.
type rateFlag struct {
	bytes  bool
	values []*blkiodev.ThrottleDevice
}

func (f *rateFlag) String() string { return "" }
func (f *rateFlag) Type() string   { return "list" }
func (f *rateFlag) Set(s string) error {
	dev, v, err := cutDevice(s)
	if err != nil {
		return err
	}
	var n uint64
	if f.bytes {
		b, err := units.RAMInBytes(v)
		if err != nil || b < 0 {
			return fmt.Errorf("invalid rate for device: %s. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb", s)
		}
		n = uint64(b)
	} else if n, err = strconv.ParseUint(v, 10, 64); err != nil {
		return fmt.Errorf("invalid rate for device: %s. The correct format is <device-path>:<number>. Number must be a positive integer", s)
	}
	f.values = append(f.values, &blkiodev.ThrottleDevice{Path: dev, Rate: n})
	return nil
}

func cutDevice(s string) (dev, v string, err error) {
	dev, v, ok := strings.Cut(s, ":")
	if !ok {
		return "", "", fmt.Errorf("bad format: %s", s)
	}
	if !strings.HasPrefix(dev, "/dev/") {
		return "", "", fmt.Errorf("bad format for device path: %s", s)
	}
	return dev, v, nil
}

// gpusFlag collects --gpus all, a number, or device=0,driver=...
type gpusFlag struct{ values []container.DeviceRequest }

func (f *gpusFlag) String() string { return "" }
func (f *gpusFlag) Type() string   { return "gpu-request" }

func (f *gpusFlag) Set(s string) error {
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return err
	}
	r := container.DeviceRequest{}
	seen := map[string]bool{}
	for _, field := range fields {
		k, v, ok := strings.Cut(field, "=")
		if !ok {
			k, v = "count", field
		}
		if seen[k] {
			return fmt.Errorf("gpu request key '%s' can be specified only once", k)
		}
		seen[k] = true
		if err := setGPU(&r, k, v); err != nil {
			return err
		}
	}
	if !seen["count"] && r.DeviceIDs == nil {
		r.Count = 1
	}
	if r.Options == nil {
		r.Options = map[string]string{}
	}
	if r.Capabilities == nil {
		r.Capabilities = [][]string{{"gpu"}}
	}
	f.values = append(f.values, r)
	return nil
}

func setGPU(r *container.DeviceRequest, k, v string) error {
	list := func() ([]string, error) { return csv.NewReader(strings.NewReader(v)).Read() }
	switch k {
	case "driver":
		r.Driver = v
	case "count":
		if v == "all" {
			r.Count = -1
			return nil
		}
		n, err := strconv.Atoi(v)
		if err != nil {
			return fmt.Errorf("invalid count (%s): value must be either \"all\" or an integer", v)
		}
		r.Count = n
	case "device":
		ids, err := list()
		if err != nil {
			return err
		}
		r.DeviceIDs = ids
	case "capabilities":
		caps, err := list()
		if err != nil {
			return err
		}
		r.Capabilities = [][]string{append([]string{"gpu"}, caps...)}
	case "options":
		opts, err := list()
		if err != nil {
			return err
		}
		r.Options = mapOf(opts)
	default:
		return errors.New("unexpected key '" + k + "' in '" + k + "=" + v + "'")
	}
	return nil
}
