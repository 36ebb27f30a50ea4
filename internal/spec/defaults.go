package spec

import (
	"slices"

	"github.com/moby/moby/api/types/container"
)

// Defaults fills in what docker fills in when it creates a container, so that inspect shows it.
func Defaults(hc *container.HostConfig, h Host) {
	if hc.Memory > 0 && hc.MemorySwap == 0 {
		hc.MemorySwap = 2 * hc.Memory
	}
	if hc.ShmSize == 0 {
		hc.ShmSize = defaultShmSize
	}
	if hc.IpcMode.IsEmpty() {
		hc.IpcMode = container.IPCModePrivate
	}
	if hc.CgroupnsMode.IsEmpty() {
		hc.CgroupnsMode = defaultCgroupnsMode(h)
	}
	if hc.Runtime == "" {
		hc.Runtime = "runc" // the name that docker's tools know
	}
	if hc.CPUShares == 1 {
		hc.CPUShares = 2 // the kernel's least
	}
	if hc.CPUShares > 262144 {
		hc.CPUShares = 262144 // the kernel's most
	}
	b := builder{host: hc}
	b.security, _ = parseSecurity(hc.SecurityOpt) // a bad one is Validate's to refuse
	bare := hc.Privileged || b.security.unconfinedPaths
	if hc.MaskedPaths == nil && !bare {
		hc.MaskedPaths = hiddenOn(h)
	}
	if hc.ReadonlyPaths == nil && !bare {
		hc.ReadonlyPaths = slices.Clone(readonlyPaths)
	}
}

// defaultCgroupnsMode: docker hides the host's hierarchy on version 2 only.
func defaultCgroupnsMode(h Host) container.CgroupnsMode {
	if h.CgroupV2 {
		return container.CgroupnsModePrivate
	}
	return container.CgroupnsModeHost
}
