package spec

import (
	"maps"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// tmpfsOpposites are the flags of a tmpfs mount, each with the one that it takes back.
var tmpfsOpposites = map[string]string{
	"ro": "rw", "rw": "ro", "suid": "nosuid", "nosuid": "suid", "dev": "nodev", "nodev": "dev", "exec": "noexec",
	"noexec": "exec", "sync": "async", "async": "sync", "atime": "noatime", "noatime": "atime",
	"diratime": "nodiratime", "nodiratime": "diratime", "relatime": "norelatime", "norelatime": "relatime",
	"strictatime": "nostrictatime", "nostrictatime": "strictatime", "mand": "nomand", "nomand": "mand",
	"bind": "", "rbind": "", "private": "", "rprivate": "", "slave": "", "rslave": "", "shared": "", "rshared": "",
	"unbindable": "", "runbindable": "", "remount": "", "defaults": "",
}

// tmpfsValues are its options with a value.
var tmpfsValues = []string{"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"}

// tmpfsMounts makes mounts of HostConfig.Tmpfs, in the order of their paths.
func tmpfsMounts(tmpfs map[string]string) ([]specs.Mount, error) {
	if len(tmpfs) == 0 {
		return nil, nil
	}
	out := make([]specs.Mount, 0, len(tmpfs))
	for _, dest := range slices.Sorted(maps.Keys(tmpfs)) {
		options, err := tmpfsOptions(tmpfs[dest])
		if err != nil {
			return nil, err
		}
		out = append(out, specs.Mount{Destination: path.Clean(dest), Type: "tmpfs", Source: "tmpfs", Options: options})
	}
	return out, nil
}

// goodValue says whether the kernel takes a value of an option; of mpol it says so itself.
func goodValue(key, value string) bool {
	switch key {
	case "mode":
		return value != "" && strings.Trim(value, "01234567") == ""
	case "uid", "gid":
		return value != "" && strings.Trim(value, "0123456789") == ""
	case "size", "nr_inodes", "nr_blocks":
		digits := strings.TrimRight(value, "kKmMgGtTpPeE%")
		return digits != "" && strings.Trim(digits, "0123456789") == "" && len(value)-len(digits) <= 1
	}
	return value != ""
}

// tmpfsOptions puts the user's options over docker's own. Mount options are last-wins: of two that contradict each other
// only the last one is kept.
func tmpfsOptions(data string) ([]string, error) {
	all := []string{"noexec", "nosuid", "nodev", "rprivate"}
	if data != "" {
		all = append(all, strings.Split(data, ",")...)
	}
	seen := make(map[string]bool, len(all))
	out := make([]string, 0, len(all))
	for _, o := range slices.Backward(all) {
		key, value, hasValue := strings.Cut(o, "=")
		opposite, isFlag := tmpfsOpposites[o]
		switch {
		case o == "defaults":
			continue
		case hasValue && slices.Contains(tmpfsValues, key) || !hasValue && isFlag:
			if hasValue && !goodValue(key, value) {
				return nil, tryInstead("size=64m, mode=1777, uid=1000", invalid("tmpfs-option", "invalid value of the tmpfs option %q", o))
			}
		default:
			return nil, tryInstead("size=64m, mode=1777, or an option of mount(8)", invalid("tmpfs-option", "invalid tmpfs option %q", o))
		}
		if seen[key] {
			continue
		}
		seen[key] = true
		if opposite != "" {
			seen[opposite] = true
		}
		out = append(out, o)
	}
	slices.Reverse(out)
	return out, nil
}

// checkTmpfsDestination refuses in docker's words.
func checkTmpfsDestination(dest string) error {
	switch {
	case dest == "":
		return invalid("tmpfs-path", "invalid mount config for type \"tmpfs\": field Target must not be empty")
	case !path.IsAbs(dest):
		return invalid("tmpfs-path", "invalid mount path: '%s' mount path must be absolute", dest)
	case path.Clean(dest) == "/":
		return invalid("tmpfs-path", "invalid specification: destination can't be '/'")
	}
	return nil
}
