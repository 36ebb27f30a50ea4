package runtime

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// help does for the child what its program cannot.
func (ch *child) help(a *assist) error {
	switch a.kind {
	case assistMaps:
		return ch.writeMaps()
	case assistTarget, assistCwd:
		root, err := ch.rootFD()
		if err != nil {
			return err
		}
		if root != ch.root {
			defer unix.Close(root)
		}
		m := maker{root: root}
		m.uid, m.gid = ch.c.rootOwner()
		if err := m.make(a.path, a.file); err != nil {
			step := "create mount target"
			if a.kind == assistCwd {
				step = "chdir"
			}
			var errno unix.Errno
			if errors.As(err, &errno) {
				err = errno
			}
			return &StartError{Step: step, Path: a.path, Err: err}
		}
		return nil
	case assistCopyUp:
		return ch.copyUp(a)
	}
	return fmt.Errorf("unknown request of the set-up: %d", a.kind)
}

// rootFD is the root filesystem: that which was mounted for the child, or the one that it has entered.
func (ch *child) rootFD() (int, error) {
	if ch.root >= 0 {
		return ch.root, nil
	}
	name := fmt.Sprintf("/proc/%d/root", ch.pid)
	if !ch.parked && ch.c.root != 0 {
		// It has not been entered yet: /proc/PID/root is the host's.
		name = fmt.Sprintf("/proc/%d/fd/%d", ch.pid, ch.im.fd(ch.c.root))
	}
	fd, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the container's root: %w", err)
	}
	return fd, nil
}

// rootOwner is the host's id of the container's root.
func (c *compiler) rootOwner() (uid, gid int) {
	find := func(maps []specs.LinuxIDMapping) int {
		for _, m := range maps {
			if m.ContainerID == 0 {
				return int(m.HostID)
			}
		}
		return 0
	}
	return find(c.spec.Linux.UIDMappings), find(c.spec.Linux.GIDMappings)
}

// writeMaps writes a new user namespace's mappings and a new time namespace's offsets.
func (ch *child) writeMaps() error {
	dir := "/proc/" + strconv.Itoa(ch.pid) + "/"
	l := ch.c.spec.Linux
	if ch.c.ns.fresh&unix.CLONE_NEWUSER != 0 && !ch.c.plain {
		for _, f := range []struct {
			name string
			maps []specs.LinuxIDMapping
		}{{"uid_map", l.UIDMappings}, {"gid_map", l.GIDMappings}} {
			if err := writeFile(dir+f.name, mapText(f.maps)); err != nil {
				return fmt.Errorf("write user namespace's %s: %w", f.name, err)
			}
		}
	}
	if ch.c.ns.fresh&unix.CLONE_NEWUSER != 0 {
		if err := ch.setOOMScore(); err != nil {
			return err
		}
	}
	if len(l.TimeOffsets) > 0 {
		var b strings.Builder
		for clock, o := range l.TimeOffsets {
			fmt.Fprintf(&b, "%s %d %d\n", clock, o.Secs, o.Nanosecs)
		}
		if err := writeFile(dir+"timens_offsets", b.String()); err != nil {
			return fmt.Errorf("write time namespace's offsets: %w", err)
		}
	}
	return nil
}

func mapText(maps []specs.LinuxIDMapping) string {
	var b strings.Builder
	for _, m := range maps {
		fmt.Fprintf(&b, "%d %d %d\n", m.ContainerID, m.HostID, m.Size)
	}
	return b.String()
}

// writeFile writes with one call, as these files of procfs want it.
func writeFile(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

// maker makes directories and files inside of a root whose content is hostile.
type maker struct {
	root     int
	uid, gid int
}

// make makes all that is missing of a path. A dangling symbolic link is followed, inside of the root, and what it names
// is made: images link /etc/resolv.conf to what a running system would have.
func (m maker) make(name string, file bool) error {
	var done []string // components that are resolved: directories
	todo := split(name)
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		if part == ".." {
			done = done[:max(len(done)-1, 0)]
			continue
		}
		link, err := m.step(done, part, file && len(todo) == 0)
		if err != nil {
			return fmt.Errorf("make /%s: %w", strings.Join(append(done, part), "/"), err)
		}
		if link == "" {
			done = append(done, part)
			continue
		}
		if links++; links > 40 {
			return fmt.Errorf("make %s: %w", name, unix.ELOOP)
		}
		if path.IsAbs(link) {
			done = nil
		}
		todo = append(split(link), todo...)
	}
	return nil
}

func split(name string) []string {
	return strings.FieldsFunc(name, func(r rune) bool { return r == '/' })
}

// step makes one component if it is missing. A symbolic link is returned, not followed.
func (m maker) step(dir []string, part string, file bool) (link string, err error) {
	if part == "." {
		return "", nil
	}
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS,
	}
	at, err := unix.Openat2(m.root, "/"+strings.Join(dir, "/"), &how)
	if err != nil {
		return "", err
	}
	defer unix.Close(at)
	var st unix.Stat_t
	err = unix.Fstatat(at, part, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
		return "", m.create(at, part, file)
	case err != nil:
		return "", err
	case st.Mode&unix.S_IFMT != unix.S_IFLNK:
		return "", nil
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(at, part, buf)
	if err != nil {
		return "", err
	}
	if n == 0 {
		return "", unix.ENOENT
	}
	return string(buf[:n]), nil
}

func (m maker) create(at int, name string, file bool) error {
	if !file {
		if err := unix.Mkdirat(at, name, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
	} else {
		fd, err := unix.Openat(at, name, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_RDONLY, 0o644)
		if err != nil {
			return err
		}
		unix.Close(fd)
	}
	if m.uid|m.gid != 0 {
		return unix.Fchownat(at, name, m.uid, m.gid, unix.AT_SYMLINK_NOFOLLOW)
	}
	return nil
}
