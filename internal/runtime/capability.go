package runtime

import (
	"fmt"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// capabilityNames are in the order of their numbers.
var capabilityNames = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// capSets are the five sets as masks.
type capSets struct {
	bounding, effective, inheritable, permitted, ambient uint64
}

// readCaps turns names into masks. What is unknown, or what this process does not have itself, is left out and told.
func (c *compiler) readCaps(l *specs.LinuxCapabilities) *capSets {
	if l == nil {
		return nil
	}
	var unknown, lacking []string
	mask := func(names []string) (m uint64) {
		for _, n := range names {
			i := slices.Index(capabilityNames, strings.ToUpper(n))
			switch {
			case i < 0 || i > c.in.facts.LastCap:
				unknown = append(unknown, n)
			case !c.ns.user() && c.in.facts.Caps&(1<<i) == 0:
				lacking = append(lacking, n)
			default:
				m |= 1 << i
			}
		}
		return m
	}
	s := &capSets{
		bounding: mask(l.Bounding), effective: mask(l.Effective), inheritable: mask(l.Inheritable),
		permitted: mask(l.Permitted), ambient: mask(l.Ambient),
	}
	s.tell(c, "the kernel does not know", unknown)
	s.tell(c, "this host does not allow", lacking)
	return s
}

func (s *capSets) tell(c *compiler, why string, names []string) {
	slices.Sort(names)
	if names = slices.Compact(names); len(names) > 0 {
		c.warn("capabilities left out that %s: %s", why, strings.Join(names, ", "))
	}
}

// dropBounding limits what the process can ever have again.
func (c *compiler) dropBounding(s *capSets) {
	if s == nil {
		return
	}
	for i := 0; i <= c.in.facts.LastCap; i++ {
		if s.bounding&(1<<i) != 0 || !c.ns.user() && c.in.facts.Bounding&(1<<i) == 0 {
			continue
		}
		c.c.call(unix.SYS_PRCTL, imm(unix.PR_CAPBSET_DROP), imm(i)).at("drop capability", capName(i))
	}
}

func capName(i int) string {
	if i < len(capabilityNames) {
		return capabilityNames[i]
	}
	return fmt.Sprintf("CAP_%d", i)
}

// capset sets the three sets of the process; extra is added to the permitted and effective ones.
func (c *compiler) capset(s *capSets, extra uint64) {
	p, e, i := s.permitted|extra, s.effective|extra, s.inheritable
	head := c.words(unix.LINUX_CAPABILITY_VERSION_3)
	data := c.words(e&0xffffffff|p<<32, i&0xffffffff|e>>32<<32, p>>32|i>>32<<32)
	c.c.call(unix.SYS_CAPSET, head.arg(), data.arg()).at("set capabilities", "")
}

func (c *compiler) ambient(s *capSets) {
	c.c.call(unix.SYS_PRCTL, imm(unix.PR_CAP_AMBIENT), imm(unix.PR_CAP_AMBIENT_CLEAR_ALL), imm(0), imm(0), imm(0)).
		at("clear ambient capabilities", "")
	for i := 0; i <= c.in.facts.LastCap; i++ {
		if s.ambient&(1<<i) != 0 {
			c.c.call(unix.SYS_PRCTL, imm(unix.PR_CAP_AMBIENT), imm(unix.PR_CAP_AMBIENT_RAISE), imm(i), imm(0), imm(0)).
				at("raise ambient capability", capName(i))
		}
	}
}
