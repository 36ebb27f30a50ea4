package convert

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
)

// resources are limits: those of the service, with deploy's above them.
func resources(s *types.ServiceConfig) container.Resources {
	r := container.Resources{
		CgroupParent: s.CgroupParent, Memory: int64(s.MemLimit), MemorySwap: int64(s.MemSwapLimit), MemoryReservation: int64(s.MemReservation),
		CPUCount: s.CPUCount, CPUPeriod: s.CPUPeriod, CPUQuota: s.CPUQuota, CPURealtimePeriod: s.CPURTPeriod,
		CPURealtimeRuntime: s.CPURTRuntime, CPUShares: s.CPUShares, NanoCPUs: nano(s.CPUS), CPUPercent: int64(s.CPUPercent * 100),
		CpusetCpus: s.CPUSet, DeviceCgroupRules: s.DeviceCgroupRules, Ulimits: ulimits(s.Ulimits),
	}
	if s.OomKillDisable {
		r.OomKillDisable = &s.OomKillDisable
	}
	if s.MemSwappiness != 0 {
		n := int64(s.MemSwappiness)
		r.MemorySwappiness = &n
	}
	if s.PidsLimit != 0 {
		r.PidsLimit = &s.PidsLimit
	}
	blockIO(s.BlkioConfig, &r)
	if s.Deploy != nil {
		deployed(&s.Deploy.Resources, &r)
	}
	devices(s, &r)
	return r
}

// nano rounds to what was written: 0.1 as a float32 is not a tenth.
func nano(cpus float32) int64 { return (int64(float64(cpus)*1e9+500) / 1000) * 1000 }

func deployed(d *types.Resources, r *container.Resources) {
	if l := d.Limits; l != nil {
		if l.MemoryBytes != 0 {
			r.Memory = int64(l.MemoryBytes)
		}
		if l.NanoCPUs != 0 {
			r.NanoCPUs = nano(float32(l.NanoCPUs))
		}
		if l.Pids > 0 {
			n := l.Pids
			r.PidsLimit = &n
		}
	}
	if l := d.Reservations; l != nil {
		if l.MemoryBytes != 0 {
			r.MemoryReservation = int64(l.MemoryBytes)
		}
		for _, q := range l.Devices {
			r.DeviceRequests = append(r.DeviceRequests, deviceRequest(&q, q.Capabilities))
		}
	}
}

// devices are those of the host, those that CDI names, and gpus.
func devices(s *types.ServiceConfig, r *container.Resources) {
	var named []string
	for _, d := range s.Devices {
		if d.Source == d.Target && isCDI(d.Source) {
			named = append(named, d.Source)
			continue
		}
		r.Devices = append(r.Devices, container.DeviceMapping{PathOnHost: d.Source, PathInContainer: d.Target, CgroupPermissions: d.Permissions})
	}
	if len(named) > 0 {
		r.DeviceRequests = append(r.DeviceRequests, container.DeviceRequest{Driver: "cdi", DeviceIDs: named})
	}
	for _, g := range s.Gpus {
		r.DeviceRequests = append(r.DeviceRequests, deviceRequest(&g, append(slices.Clone(g.Capabilities), "gpu")))
	}
}

// isCDI knows VENDOR/CLASS=NAME.
func isCDI(s string) bool {
	kind, name, ok := strings.Cut(s, "=")
	vendor, class, slash := strings.Cut(kind, "/")
	return ok && slash && vendor != "" && class != "" && name != "" && !strings.HasPrefix(s, "/")
}

func deviceRequest(q *types.DeviceRequest, capabilities []string) container.DeviceRequest {
	return container.DeviceRequest{
		Driver: q.Driver, Count: int(q.Count), DeviceIDs: q.IDs, Capabilities: [][]string{capabilities}, Options: q.Options,
	}
}

func blockIO(b *types.BlkioConfig, r *container.Resources) {
	if b == nil {
		return
	}
	r.BlkioWeight = b.Weight
	for _, w := range b.WeightDevice {
		r.BlkioWeightDevice = append(r.BlkioWeightDevice, &blkiodev.WeightDevice{Path: w.Path, Weight: w.Weight})
	}
	r.BlkioDeviceReadBps, r.BlkioDeviceWriteBps = throttles(b.DeviceReadBps), throttles(b.DeviceWriteBps)
	r.BlkioDeviceReadIOps, r.BlkioDeviceWriteIOps = throttles(b.DeviceReadIOps), throttles(b.DeviceWriteIOps)
}

func throttles(list []types.ThrottleDevice) []*blkiodev.ThrottleDevice {
	var out []*blkiodev.ThrottleDevice
	for _, t := range list {
		out = append(out, &blkiodev.ThrottleDevice{Path: t.Path, Rate: uint64(max(t.Rate, 0))})
	}
	return out
}

// ulimits lists limits by name.
func ulimits(m map[string]*types.UlimitsConfig) []*container.Ulimit {
	var out []*container.Ulimit
	for _, name := range slices.Sorted(maps.Keys(m)) {
		u := container.Ulimit{Name: name, Soft: int64(m[name].Single), Hard: int64(m[name].Single)}
		if m[name].Soft != 0 {
			u.Soft = int64(m[name].Soft)
		}
		if m[name].Hard != 0 {
			u.Hard = int64(m[name].Hard)
		}
		out = append(out, &u)
	}
	return out
}

// unconfinedPaths is an option of the client's: the daemon is sent empty lists of paths.
const unconfinedPaths = "systempaths=unconfined"

// securityOptions are sent as they are, but profiles with their content.
func securityOptions(in *Input) ([]string, error) {
	var out []string
	for _, o := range in.Service.SecurityOpt {
		if o == unconfinedPaths {
			continue
		}
		name, value, ok := strings.Cut(o, "=")
		if !ok && o != "no-new-privileges" {
			if name, value, ok = strings.Cut(o, ":"); !ok {
				return nil, fmt.Errorf("service %s: security_opt %q is not NAME=VALUE: %w", in.Service.Name, o, errdefs.ErrInvalidArgument)
			}
		}
		if name != "seccomp" || value == "unconfined" || value == "builtin" {
			out = append(out, o)
			continue
		}
		raw, err := in.ReadFile(in.Project.RelativePath(value))
		if err != nil {
			return nil, fmt.Errorf("service %s: read the seccomp profile: %w", in.Service.Name, err)
		}
		var b bytes.Buffer
		if err := json.Compact(&b, raw); err != nil {
			return nil, fmt.Errorf("service %s: seccomp profile %s: %w", in.Service.Name, value, err)
		}
		out = append(out, "seccomp="+b.String())
	}
	return out, nil
}
