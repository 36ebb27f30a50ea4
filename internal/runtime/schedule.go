package runtime

import (
	"fmt"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"
)

var schedulerPolicies = map[specs.LinuxSchedulerPolicy]uint64{
	specs.SchedOther: unix.SCHED_NORMAL, specs.SchedFIFO: unix.SCHED_FIFO, specs.SchedRR: unix.SCHED_RR,
	specs.SchedBatch: unix.SCHED_BATCH, specs.SchedISO: 4, specs.SchedIdle: unix.SCHED_IDLE,
	specs.SchedDeadline: unix.SCHED_DEADLINE,
}

var schedulerFlags = map[specs.LinuxSchedulerFlag]uint64{
	specs.SchedFlagResetOnFork: unix.SCHED_FLAG_RESET_ON_FORK, specs.SchedFlagReclaim: unix.SCHED_FLAG_RECLAIM,
	specs.SchedFlagDLOverrun: unix.SCHED_FLAG_DL_OVERRUN, specs.SchedFlagKeepPolicy: unix.SCHED_FLAG_KEEP_POLICY,
	specs.SchedFlagKeepParams: unix.SCHED_FLAG_KEEP_PARAMS, specs.SchedFlagUtilClampMin: unix.SCHED_FLAG_UTIL_CLAMP_MIN,
	specs.SchedFlagUtilClampMax: unix.SCHED_FLAG_UTIL_CLAMP_MAX,
}

var ioClasses = map[specs.IOPriorityClass]int{specs.IOPRIO_CLASS_RT: 1, specs.IOPRIO_CLASS_BE: 2, specs.IOPRIO_CLASS_IDLE: 3}

// schedule sets the scheduler and the priority of input and output.
func (c *compiler) schedule(p *specs.Process) error {
	if s := p.Scheduler; s != nil {
		policy, ok := schedulerPolicies[s.Policy]
		if !ok {
			return fmt.Errorf("scheduler policy %q: %w", s.Policy, errdefs.ErrInvalidArgument)
		}
		var flags uint64
		for _, f := range s.Flags {
			v, ok := schedulerFlags[f]
			if !ok {
				return fmt.Errorf("scheduler flag %q: %w", f, errdefs.ErrInvalidArgument)
			}
			flags |= v
		}
		// struct sched_attr: size and policy, flags, nice and priority, runtime, deadline, period.
		attr := c.words(48|policy<<32, flags, uint64(uint32(s.Nice))|uint64(uint32(s.Priority))<<32, s.Runtime, s.Deadline,
			s.Period)
		c.c.call(unix.SYS_SCHED_SETATTR, imm(0), attr.arg(), imm(0)).at("set scheduler", string(s.Policy))
	}
	if io := p.IOPriority; io != nil {
		class, ok := ioClasses[io.Class]
		if !ok || io.Priority < 0 || io.Priority > 7 {
			return fmt.Errorf("input/output priority %q %d: %w", io.Class, io.Priority, errdefs.ErrInvalidArgument)
		}
		c.c.call(unix.SYS_IOPRIO_SET, imm(1), imm(0), imm(class<<13|io.Priority)).at("set io priority", string(io.Class))
	}
	return nil
}

func (c *compiler) personality() error {
	p := c.spec.Linux.Personality
	if p == nil {
		return nil
	}
	if len(p.Flags) > 0 {
		return fmt.Errorf("personality flags: %w", errdefs.ErrNotImplemented)
	}
	domain := 0
	switch p.Domain {
	case specs.PerLinux:
	case specs.PerLinux32:
		domain = 8
	default:
		return fmt.Errorf("personality %q: %w", p.Domain, errdefs.ErrInvalidArgument)
	}
	c.c.call(unix.SYS_PERSONALITY, imm(domain)).at("personality", string(p.Domain))
	return nil
}

// maxCPUs bounds a list of processors.
const maxCPUs = 8192

// affinity pins the process to a list of processors such as "0-3,7".
func (c *compiler) affinity(list string) error {
	if list == "" {
		return nil
	}
	mask := make([]byte, maxCPUs/8)
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, errA := strconv.ParseUint(from, 10, 16)
		b, errB := strconv.ParseUint(to, 10, 16)
		if errA != nil || errB != nil || a > b || b >= maxCPUs {
			return fmt.Errorf("list of processors %q: %w", list, errdefs.ErrInvalidArgument)
		}
		for ; a <= b; a++ {
			mask[a/8] |= 1 << (a % 8)
		}
	}
	c.c.call(unix.SYS_SCHED_SETAFFINITY, imm(0), imm(len(mask)), c.bytes(mask).arg()).at("pin to processors", list)
	return nil
}
