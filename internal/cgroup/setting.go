package cgroup

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// setting is one value for one file of a group.
type setting struct {
	controller string
	file       string
	value      string
	// missing is what to warn of, in docker's words, if this host lacks the controller or the file.
	missing string
	// instead is written if the file is not there.
	instead *setting
}

// apply writes settings and tells of those that this host lacks. Limits depend on each other in both directions (memory and
// memory with swap, quota and period), so one that the kernel refuses is tried again after the others.
func (g *Group) apply(list []setting) (warnings []string, err error) {
	var refused []setting
	for _, s := range list {
		err := g.set(s)
		if absent(err) && s.instead != nil {
			err = g.set(*s.instead)
		}
		switch {
		case err == nil:
		case absent(err) && s.missing != "":
			warnings = appendNew(warnings, s.missing)
		case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EBUSY):
			refused = append(refused, s)
		default:
			return warnings, err
		}
	}
	for _, s := range refused {
		if err := g.set(s); err != nil {
			return warnings, classify(err)
		}
	}
	return warnings, nil
}

func (g *Group) set(s setting) error {
	d := g.dir(s.controller)
	if d == nil {
		return fmt.Errorf("%s: no cgroup controller %s: %w", s.file, s.controller, unix.ENOENT)
	}
	return d.write(g.rel, s.file, s.value)
}

func classify(err error) error {
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE):
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: %w", err, errdefs.ErrConflict)
	}
	return err
}

func appendNew(list []string, s string) []string {
	for _, have := range list {
		if have == s {
			return list
		}
	}
	return append(list, s)
}

// Docker's words for what a host lacks.
const (
	noMemory      = "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded."
	noSwap        = "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap."
	noSwappiness  = "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded."
	noReservation = "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded."
	noOOMControl  = "Your kernel does not support OomKillDisable. OomKillDisable discarded."
	noKernelTCP   = "Your kernel does not support kernel memory TCP limit or the cgroup is not mounted. Limitation discarded."
	noPids        = "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded."
	noShares      = "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded."
	noCFS         = "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded."
	noRealtime    = "Your kernel does not support CPU real-time scheduler"
	noBurst       = "Your kernel does not support CPU burst. Burst discarded."
	noIdle        = "Your kernel does not support idle CPU cgroups. Idle discarded."
	noCpuset      = "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded."
	noWeight      = "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
	noWeightDev   = "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded."
	noReadBps     = "Your kernel does not support BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit discarded."
	noWriteBps    = "Your kernel does not support BPS Block I/O write limit or the cgroup is not mounted. Block I/O BPS write limit discarded."
	noReadIOps    = "Your kernel does not support IOPS Block read limit or the cgroup is not mounted. Block I/O IOPS read limit discarded."
	noWriteIOps   = "Your kernel does not support IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit discarded."
	noHugetlb     = "Your kernel does not support hugetlb limits or the cgroup is not mounted. Limitation discarded."
	noNetwork     = "Your kernel does not support network classes or priorities or the cgroup is not mounted. Network settings discarded."
	noRdma        = "Your kernel does not support RDMA limits or the cgroup is not mounted. Limitation discarded."
	noDevices     = "Your kernel does not support the devices cgroup or it is not mounted. Access to devices is not restricted."
)
