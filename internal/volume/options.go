package volume

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
)

// The local driver's options.
const (
	optType   = "type"
	optO      = "o"
	optDevice = "device"
	optSize   = "size"
)

// checkOptions refuses options that no mount can come of, in docker's words where it has some.
func checkOptions(options map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(options)) {
		switch key {
		case optType, optO, optDevice, optSize:
		default:
			return fmt.Errorf("invalid option: %q: %w", key, errdefs.ErrInvalidArgument)
		}
	}
	for _, need := range []struct{ key, also string }{{optType, optDevice}, {optDevice, optType}, {optO, optType}, {optO, optDevice}} {
		if options[need.key] != "" && options[need.also] == "" {
			return fmt.Errorf("missing required option: %q: %w", need.also, errdefs.ErrInvalidArgument)
		}
	}
	if _, err := sizeOf(options); err != nil {
		return err
	}
	if !mounted(options) {
		return nil
	}
	if options[optSize] != "" {
		return fmt.Errorf("the option \"size\" limits a volume on this host's disk, not one of type %s; a tmpfs takes o=size=...: %w", options[optType], errdefs.ErrInvalidArgument)
	}
	m, err := parseMountOptions(options[optO])
	if err != nil {
		return err
	}
	if isBind(options) && !m.bind() {
		return fmt.Errorf("type %s needs o=bind or o=rbind: %w", options[optType], errdefs.ErrInvalidArgument)
	}
	if m.bind() && !filepath.IsAbs(options[optDevice]) {
		return fmt.Errorf("the device of a bind mount must be an absolute path, not %q: %w", options[optDevice], errdefs.ErrInvalidArgument)
	}
	return nil
}

// mounted says whether the volume is something that is mounted, not a directory of ours.
func mounted(options map[string]string) bool { return options[optType] != "" }

func isBind(options map[string]string) bool {
	return options[optType] == "none" || options[optType] == "bind"
}

// sizeOf is the limit of the volume's size in bytes, 0 for none.
func sizeOf(options map[string]string) (int64, error) {
	text, ok := options[optSize]
	if !ok {
		return 0, nil
	}
	n, err := units.RAMInBytes(text)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("invalid size: %q: %w", text, errdefs.ErrInvalidArgument)
	}
	return n, nil
}

// mountOptions are what mount(2) wants to know.
type mountOptions struct {
	flags       uintptr
	propagation uintptr
	data        []string
}

func (m *mountOptions) bind() bool { return m.flags&unix.MS_BIND != 0 }

// flagWords are mount(8)'s words for flags; those of clear take one away.
var (
	flagWords = map[string]uintptr{
		"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC,
		"sync": unix.MS_SYNCHRONOUS, "dirsync": unix.MS_DIRSYNC, "mand": unix.MS_MANDLOCK, "noatime": unix.MS_NOATIME,
		"nodiratime": unix.MS_NODIRATIME, "relatime": unix.MS_RELATIME, "strictatime": unix.MS_STRICTATIME,
		"bind": unix.MS_BIND, "rbind": unix.MS_BIND | unix.MS_REC, "lazytime": unix.MS_LAZYTIME,
	}
	clearWords = map[string]uintptr{
		"rw": unix.MS_RDONLY, "suid": unix.MS_NOSUID, "dev": unix.MS_NODEV, "exec": unix.MS_NOEXEC,
		"async": unix.MS_SYNCHRONOUS, "nomand": unix.MS_MANDLOCK, "atime": unix.MS_NOATIME, "diratime": unix.MS_NODIRATIME,
		"norelatime": unix.MS_RELATIME, "nostrictatime": unix.MS_STRICTATIME, "nolazytime": unix.MS_LAZYTIME,
		"defaults": 0,
	}
	propagationWords = map[string]uintptr{
		"private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE | unix.MS_REC, "shared": unix.MS_SHARED,
		"rshared": unix.MS_SHARED | unix.MS_REC, "slave": unix.MS_SLAVE, "rslave": unix.MS_SLAVE | unix.MS_REC,
		"unbindable": unix.MS_UNBINDABLE, "runbindable": unix.MS_UNBINDABLE | unix.MS_REC,
	}
)

// parseMountOptions sorts the words of the option "o": flags of the mount, and what the file system itself wants.
func parseMountOptions(o string) (mountOptions, error) {
	var m mountOptions
	for word := range strings.SplitSeq(o, ",") {
		set, isSet := flagWords[word]
		clear, isClear := clearWords[word]
		prop, isProp := propagationWords[word]
		switch {
		case word == "":
		case word == "remount", word == "move":
			return m, fmt.Errorf("invalid mount option %q: %w", word, errdefs.ErrInvalidArgument)
		case strings.ContainsRune(word, 0):
			return m, fmt.Errorf("invalid mount option: a zero byte: %w", errdefs.ErrInvalidArgument)
		case isSet:
			m.flags |= set
		case isClear:
			m.flags &^= clear
		case isProp:
			m.propagation = prop
		default:
			m.data = append(m.data, word)
		}
	}
	return m, nil
}

// resolve gives the kernel, which cannot look names up, the addresses of a network file system's server.
func resolve(kind, device string, data []string) ([]string, error) {
	data = slices.Clone(data)
	switch kind {
	case "nfs", "nfs4":
		for i, word := range data {
			if host, ok := strings.CutPrefix(word, "addr="); ok {
				addr, err := lookup(host)
				if err != nil {
					return nil, err
				}
				data[i] = "addr=" + addr
			}
		}
	case "cifs", "smb3":
		if slices.ContainsFunc(data, func(w string) bool { return strings.HasPrefix(w, "ip=") || strings.HasPrefix(w, "addr=") }) {
			return data, nil
		}
		u, err := url.Parse(device)
		if err != nil || u.Hostname() == "" {
			return nil, fmt.Errorf("the device of type %s must be //SERVER/SHARE, not %q: %w", kind, device, errdefs.ErrInvalidArgument)
		}
		addr, err := lookup(u.Hostname())
		if err != nil {
			return nil, err
		}
		data = append(data, "ip="+addr)
	}
	return data, nil
}

func lookup(host string) (string, error) {
	if _, err := netip.ParseAddr(host); err == nil {
		return host, nil
	}
	list, err := net.LookupIP(host)
	if err != nil || len(list) == 0 {
		return "", &fault.Error{
			Code: "volume-server", What: fmt.Sprintf("cannot find the server %q of the volume", host), Cause: errText(err, "it has no address"),
			Try: "give its address", Class: errdefs.ErrUnavailable, Err: err,
		}
	}
	return list[0].String(), nil
}

func errText(err error, otherwise string) string {
	if err != nil {
		return err.Error()
	}
	return otherwise
}
