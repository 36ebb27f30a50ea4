package runtime

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"
)

// mountOptions are an OCI mount's options, parsed.
type mountOptions struct {
	set, clear       uint64 // MOUNT_ATTR_*
	recSet, recClear uint64 // the same, for the whole tree ("rro")
	propagation      uint64 // MS_SHARED ..., 0: unsaid
	recPropagation   bool
	bind, recursive  bool
	idmap            bool
	recIdmap         bool
	copyUp           bool
	data             []string
}

type attrOption struct {
	attr  uint64
	clear bool
}

var attrOptions = map[string]attrOption{
	"ro": {unix.MOUNT_ATTR_RDONLY, false}, "rw": {unix.MOUNT_ATTR_RDONLY, true},
	"nosuid": {unix.MOUNT_ATTR_NOSUID, false}, "suid": {unix.MOUNT_ATTR_NOSUID, true},
	"nodev": {unix.MOUNT_ATTR_NODEV, false}, "dev": {unix.MOUNT_ATTR_NODEV, true},
	"noexec": {unix.MOUNT_ATTR_NOEXEC, false}, "exec": {unix.MOUNT_ATTR_NOEXEC, true},
	"noatime": {unix.MOUNT_ATTR_NOATIME, false}, "atime": {unix.MOUNT_ATTR_NOATIME, true},
	"strictatime": {unix.MOUNT_ATTR_STRICTATIME, false}, "nostrictatime": {unix.MOUNT_ATTR_STRICTATIME, true},
	"relatime": {unix.MOUNT_ATTR_RELATIME, false}, "norelatime": {unix.MOUNT_ATTR_RELATIME, true},
	"nodiratime": {unix.MOUNT_ATTR_NODIRATIME, false}, "diratime": {unix.MOUNT_ATTR_NODIRATIME, true},
	"nosymfollow": {unix.MOUNT_ATTR_NOSYMFOLLOW, false}, "symfollow": {unix.MOUNT_ATTR_NOSYMFOLLOW, true},
}

var propagations = map[string]uint64{
	"shared": unix.MS_SHARED, "slave": unix.MS_SLAVE, "private": unix.MS_PRIVATE, "unbindable": unix.MS_UNBINDABLE,
}

// Options that have no meaning for a new mount, or none left in today's kernels.
var emptyOptions = map[string]bool{
	"": true, "defaults": true, "silent": true, "loud": true, "nomand": true, "noiversion": true, "async": true,
	"norelatime": true, "nolazytime": true, "remount": true,
}

func parseMountOptions(options []string) (mountOptions, error) {
	var m mountOptions
	for _, o := range options {
		if err := m.parse(o); err != nil {
			return m, err
		}
	}
	return m, nil
}

func (m *mountOptions) parse(o string) error {
	if emptyOptions[o] {
		return nil
	}
	if a, ok := attrOptions[o]; ok {
		apply(a, &m.set, &m.clear)
		return nil
	}
	if a, ok := attrOptions[strings.TrimPrefix(o, "r")]; ok && strings.HasPrefix(o, "r") {
		apply(a, &m.recSet, &m.recClear)
		return nil
	}
	if p, ok := propagations[o]; ok {
		m.propagation, m.recPropagation = p, false
		return nil
	}
	if p, ok := propagations[strings.TrimPrefix(o, "r")]; ok {
		m.propagation, m.recPropagation = p, true
		return nil
	}
	switch o {
	case "bind":
		m.bind = true
	case "rbind":
		m.bind, m.recursive = true, true
	case "idmap":
		m.idmap = true
	case "ridmap":
		m.idmap, m.recIdmap = true, true
	case "tmpcopyup":
		m.copyUp = true
	default:
		if strings.ContainsRune(o, 0) {
			return fmt.Errorf("mount option %q: %w", o, errdefs.ErrInvalidArgument)
		}
		m.data = append(m.data, o)
	}
	return nil
}

// apply lets the last of contradicting options win, as mount(8) does.
func apply(a attrOption, set, clear *uint64) {
	const atime = unix.MOUNT_ATTR__ATIME
	switch {
	case a.attr&^atime == 0 && !a.clear:
		// relatime is the value 0 of a field, the default.
		*set = *set&^atime | a.attr
		*clear |= atime
	case a.attr&^atime == 0:
		*set &^= a.attr
		*clear |= atime
	case a.clear:
		*set &^= a.attr
		*clear |= a.attr
	default:
		*set |= a.attr
		*clear &^= a.attr
	}
}

// value gives the value of the last data option with a key.
func (m *mountOptions) value(key string) (string, bool) {
	for i := len(m.data) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(m.data[i], key+"="); ok {
			return v, true
		}
	}
	return "", false
}
