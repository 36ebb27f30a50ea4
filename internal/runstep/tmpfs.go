package runstep

import (
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// tmpfsMount mounts an empty file system in memory.
func (s *step) tmpfsMount(m *Mount) {
	options := []string{"nosuid"}
	dest := s.dest(m)
	if dest == "/dev/shm" {
		options = append(options, "noexec", "nodev", "mode=1777")
	}
	if size := m.TmpfsOpt.GetSize(); size > 0 {
		options = append(options, "size="+strconv.FormatInt(size, 10))
	}
	if m.Readonly {
		options = append(options, "ro")
	}
	s.mounts = append(s.mounts, specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: dest, Options: options})
}
