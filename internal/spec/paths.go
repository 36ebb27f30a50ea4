package spec

import "slices"

// maskedPaths and readonlyPaths are docker's: what they hide tells of the host or of other containers, or changes it.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
		"/sys/firmware",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// hiddenOn are the paths that a container on h cannot see.
func hiddenOn(h Host) []string { return slices.Concat(maskedPaths, h.MaskedPaths) }

func (b *builder) paths() error {
	if b.host.Privileged || b.security.unconfinedPaths {
		return nil
	}
	l := b.spec.Linux
	// A list that is there replaces docker's, even if it is empty.
	if b.host.MaskedPaths != nil {
		l.MaskedPaths = slices.Clone(b.host.MaskedPaths)
	} else {
		l.MaskedPaths = hiddenOn(b.in.Host)
	}
	if b.host.ReadonlyPaths != nil {
		l.ReadonlyPaths = slices.Clone(b.host.ReadonlyPaths)
	} else {
		l.ReadonlyPaths = slices.Clone(readonlyPaths)
	}
	return nil
}
