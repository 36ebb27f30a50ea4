package spec

import (
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// limits adds the resource limits to the device rules that are there already.
func (b *builder) limits() error {
	r := b.spec.Linux.Resources
	wish := b.resources
	if wish.Memory > 0 && wish.MemorySwap == 0 {
		wish.MemorySwap = 2 * wish.Memory // docker's default is as much swap again as there is memory
	}
	limits, err := Resources(wish, b.in.DeviceNumbers)
	if err != nil {
		return err
	}
	limits.Devices = r.Devices
	b.spec.Linux.Resources = limits
	return nil
}

// Resources translates docker's resource fields, for docker update: only what is set is in the result. numbers are the
// major and minor numbers of the block devices that the Blkio fields name.
func Resources(r container.Resources, numbers map[string]specs.LinuxBlockIODevice) (*specs.LinuxResources, error) {
	block, err := blockIO(r, numbers)
	if err != nil {
		return nil, err
	}
	return &specs.LinuxResources{Memory: memory(r), CPU: cpu(r), Pids: pids(r), BlockIO: block}, nil
}

func memory(r container.Resources) *specs.LinuxMemory {
	var m specs.LinuxMemory
	if r.Memory > 0 {
		m.Limit = &r.Memory
	}
	if r.MemoryReservation > 0 {
		m.Reservation = &r.MemoryReservation
	}
	if r.MemorySwap != 0 {
		m.Swap = &r.MemorySwap
	}
	if r.MemorySwappiness != nil && *r.MemorySwappiness >= 0 {
		n := uint64(*r.MemorySwappiness)
		m.Swappiness = &n
	}
	if r.OomKillDisable != nil && *r.OomKillDisable {
		m.DisableOOMKiller = clonePointer(r.OomKillDisable)
	}
	if m == (specs.LinuxMemory{}) {
		return nil
	}
	return &m
}

// cfsPeriod is the period in microseconds in which NanoCPUs are counted.
const cfsPeriod = 100_000

func cpu(r container.Resources) *specs.LinuxCPU {
	c := specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems}
	if r.CPUShares > 0 {
		n := uint64(r.CPUShares)
		c.Shares = &n
	}
	if r.NanoCPUs > 0 {
		period, quota := uint64(cfsPeriod), r.NanoCPUs*cfsPeriod/1e9
		c.Period, c.Quota = &period, &quota
	}
	if r.CPUPeriod != 0 {
		n := uint64(r.CPUPeriod)
		c.Period = &n
	}
	if r.CPUQuota != 0 {
		c.Quota = &r.CPUQuota
	}
	if r.CPURealtimePeriod != 0 {
		n := uint64(r.CPURealtimePeriod)
		c.RealtimePeriod = &n
	}
	if r.CPURealtimeRuntime != 0 {
		c.RealtimeRuntime = &r.CPURealtimeRuntime
	}
	if c == (specs.LinuxCPU{}) {
		return nil
	}
	return &c
}

func pids(r container.Resources) *specs.LinuxPids {
	if r.PidsLimit == nil {
		return nil
	}
	n := *r.PidsLimit
	if n <= 0 {
		n = -1 // docker takes zero and less for "no limit"
	}
	return &specs.LinuxPids{Limit: &n}
}

func blockIO(r container.Resources, numbers map[string]specs.LinuxBlockIODevice) (*specs.LinuxBlockIO, error) {
	if r.BlkioWeight == 0 && len(r.BlkioWeightDevice)+len(r.BlkioDeviceReadBps)+len(r.BlkioDeviceWriteBps)+
		len(r.BlkioDeviceReadIOps)+len(r.BlkioDeviceWriteIOps) == 0 {
		return nil, nil
	}
	var b specs.LinuxBlockIO
	if r.BlkioWeight > 0 {
		b.Weight = &r.BlkioWeight
	}
	for _, d := range r.BlkioWeightDevice {
		n, ok := numbers[d.Path]
		if !ok {
			return nil, noDevice(d.Path)
		}
		weight := d.Weight
		b.WeightDevice = append(b.WeightDevice, specs.LinuxWeightDevice{LinuxBlockIODevice: n, Weight: &weight})
	}
	for _, list := range []struct {
		from []*blkiodev.ThrottleDevice
		to   *[]specs.LinuxThrottleDevice
	}{
		{r.BlkioDeviceReadBps, &b.ThrottleReadBpsDevice},
		{r.BlkioDeviceWriteBps, &b.ThrottleWriteBpsDevice},
		{r.BlkioDeviceReadIOps, &b.ThrottleReadIOPSDevice},
		{r.BlkioDeviceWriteIOps, &b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range list.from {
			n, ok := numbers[d.Path]
			if !ok {
				return nil, noDevice(d.Path)
			}
			*list.to = append(*list.to, specs.LinuxThrottleDevice{LinuxBlockIODevice: n, Rate: d.Rate})
		}
	}
	return &b, nil
}

func noDevice(path string) error {
	return invalid("device-missing", "stat %s: no such block device", path)
}
