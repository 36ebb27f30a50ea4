package hostinfo

import (
	"fmt"

	"golang.org/x/sys/unix"
)

var limits = map[string]int{
	"RLIMIT_CPU": unix.RLIMIT_CPU, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_DATA": unix.RLIMIT_DATA,
	"RLIMIT_STACK": unix.RLIMIT_STACK, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_RSS": unix.RLIMIT_RSS,
	"RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK,
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS, "RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING,
	"RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO,
	"RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
}

// capSysResource lets a process raise its hard limits.
const capSysResource = 24

// rlimits are the hard limits of this process, above which it can raise no container's. It is empty if it may raise them.
func rlimits() (map[string]uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return nil, fmt.Errorf("reading capabilities: %w", err)
	}
	if data[0].Effective&(1<<capSysResource) != 0 {
		return nil, nil
	}
	out := make(map[string]uint64, len(limits))
	for name, nr := range limits {
		var r unix.Rlimit
		if err := unix.Getrlimit(nr, &r); err != nil {
			return nil, fmt.Errorf("reading the limit %s: %w", name, err)
		}
		out[name] = r.Max
	}
	return out, nil
}
