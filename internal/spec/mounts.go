package spec

import (
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// defaultShmSize is the size of /dev/shm where HostConfig names none.
const defaultShmSize = 64 << 20

// standardMounts are those of every container. They are built anew each time: the caller may change them.
func standardMounts() []specs.Mount {
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{
			Destination: "/dev", Type: "tmpfs", Source: "tmpfs",
			Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"},
		},
		{
			Destination: "/dev/pts", Type: "devpts", Source: "devpts",
			Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"},
		},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{
			Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup",
			Options: []string{"ro", "nosuid", "noexec", "nodev"},
		},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{
			Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
			Options: []string{"nosuid", "noexec", "nodev", "mode=1777"},
		},
	}
}

func (b *builder) mounts() error {
	tmpfs, err := tmpfsMounts(b.host.Tmpfs)
	if err != nil {
		return err
	}
	users := make([]specs.Mount, 0, len(b.in.Mounts)+len(tmpfs)+1)
	for _, m := range b.in.Mounts {
		users = append(users, cloneMount(m))
	}
	for _, m := range tmpfs {
		if !slices.ContainsFunc(users, func(u specs.Mount) bool { return path.Clean(u.Destination) == m.Destination }) {
			users = append(users, m)
		}
	}
	// What lies deeper is mounted later, or it would be hidden.
	slices.SortStableFunc(users, func(x, y specs.Mount) int { return depth(x.Destination) - depth(y.Destination) })
	mounts := b.standard(users)
	mounts = append(mounts, users...)
	if b.wantsInit() {
		mounts = append(mounts, specs.Mount{
			Destination: initDestination, Type: "bind", Source: b.in.InitPath, Options: []string{"bind", "ro"},
		})
	}
	b.spec.Mounts = mounts
	b.spec.Linux.RootfsPropagation = rootPropagation(users)
	return nil
}

// standard are the standard mounts that no mount of the user replaces.
func (b *builder) standard(users []specs.Mount) []specs.Mount {
	replaced := make(map[string]bool, len(users))
	for _, m := range users {
		replaced[path.Clean(m.Destination)] = true
	}
	all := standardMounts()
	out := make([]specs.Mount, 0, len(all)+len(users)+1)
	for _, m := range all {
		if replaced[m.Destination] || replaced["/dev"] && strings.HasPrefix(m.Destination, "/dev/") {
			continue
		}
		switch m.Destination {
		case "/dev/shm":
			if b.host.IpcMode.IsNone() {
				continue
			}
			m = b.shm(m)
		case "/sys":
			if b.host.Privileged {
				m.Options = without(m.Options, []string{"ro"})
			}
		case "/sys/fs/cgroup":
			if b.host.Privileged && !b.security.cgroupsReadonly || b.security.writableCgroups {
				m.Options = without(m.Options, []string{"ro"})
			}
		}
		out = append(out, m)
	}
	return out
}

// shm is the container's own, or the host's. A /dev/shm that is shared with another container comes in Input.Mounts.
func (b *builder) shm(m specs.Mount) specs.Mount {
	if b.host.IpcMode.IsHost() {
		return specs.Mount{Destination: m.Destination, Type: "bind", Source: "/dev/shm", Options: []string{"rbind", "rprivate"}}
	}
	size := b.host.ShmSize
	if size == 0 {
		size = defaultShmSize
	}
	m.Options = append(m.Options, "size="+strconv.FormatInt(size, 10))
	return m
}

func depth(p string) int { return strings.Count(path.Clean(p), "/") }

func cloneMount(m specs.Mount) specs.Mount {
	m.Options = slices.Clone(m.Options)
	m.UIDMappings = slices.Clone(m.UIDMappings)
	m.GIDMappings = slices.Clone(m.GIDMappings)
	return m
}

// rootPropagation is what the root must be for shared and slave binds to reach, or hear from, the host.
func rootPropagation(users []specs.Mount) string {
	var propagation string
	for _, m := range users {
		for _, o := range m.Options {
			switch o {
			case "shared", "rshared":
				return "shared"
			case "slave", "rslave":
				propagation = "rslave"
			}
		}
	}
	return propagation
}
