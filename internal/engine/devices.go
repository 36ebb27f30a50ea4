package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/blkiodev"
	docker "github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/spec"
)

// devices looks up on the host what --device and the limits on block devices name.
func (e *Engine) devices(d *definition, in *spec.Input) (err error) {
	for _, m := range d.HostConfig.Devices {
		found, rules, err := mappedDevices(m)
		if err != nil {
			return err
		}
		in.Devices = append(in.Devices, found...)
		in.DeviceRules = append(in.DeviceRules, rules...)
	}
	in.DeviceNumbers, err = blockNumbers(d.HostConfig.Resources)
	return err
}

// mappedDevices is the device, or all devices in the directory, that a mapping names.
func mappedDevices(m docker.DeviceMapping) (list []specs.LinuxDevice, rules []specs.LinuxDeviceCgroup, err error) {
	inside := m.PathInContainer
	if inside == "" {
		inside = m.PathOnHost
	}
	access := m.CgroupPermissions
	if access == "" {
		access = "rwm"
	}
	info, err := os.Stat(m.PathOnHost)
	if err != nil {
		return nil, nil, noDevice(m.PathOnHost, err)
	}
	add := func(file, as string) error {
		d, err := device(file, as)
		if err != nil {
			return err
		}
		major, minor := d.Major, d.Minor
		list = append(list, d)
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &major, Minor: &minor, Access: access})
		return nil
	}
	if !info.IsDir() {
		if err := add(m.PathOnHost, inside); err != nil {
			return nil, nil, noDevice(m.PathOnHost, err)
		}
		return list, rules, nil
	}
	err = filepath.WalkDir(m.PathOnHost, func(file string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			err = add(file, inside+strings.TrimPrefix(file, m.PathOnHost))
		}
		if errors.Is(err, errNoDevice) || errors.Is(err, fs.ErrNotExist) && file != m.PathOnHost { // Some come and go.
			return nil
		}
		return err
	})
	if err != nil {
		return nil, nil, noDevice(m.PathOnHost, err)
	}
	return list, rules, nil
}

func noDevice(file string, err error) error {
	return unusable(fmt.Sprintf("error gathering device information while adding custom device %q", file), file, err)
}

// unusable tells why a device cannot be had. The kernel's words for a file that is not there are avoided: docker's command
// takes them for a program that is missing, and ends with 127.
func unusable(what, file string, err error) error {
	f := &fault.Error{Code: "device-unusable", What: what, Cause: err.Error(), Class: errdefs.ErrInvalidArgument, Err: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Words, f.What = what, what+": this host has no "+file
		f.Code, f.Cause, f.Try = "device-missing", "this host has no "+file, "ls /dev; a kernel module may be missing (modprobe)"
	case errors.Is(err, errNoDevice):
		f.Words, f.What = what, what+": "+file+" is no device"
		f.Cause, f.Try = file+" is no device", "-v "+file+":... for a file or a directory"
	}
	return f
}

var errNoDevice = errors.New("not a device node")

// device describes a device node of the host.
func device(file, as string) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return specs.LinuxDevice{}, err
	}
	d := specs.LinuxDevice{Path: as, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev))}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		d.Type = "b"
	case unix.S_IFCHR:
		d.Type = "c"
	default:
		return d, errNoDevice
	}
	mode, uid, gid := os.FileMode(st.Mode&0o777), st.Uid, st.Gid
	d.FileMode, d.UID, d.GID = &mode, &uid, &gid
	return d, nil
}

// blockNumbers looks up the devices whose input and output is limited.
func blockNumbers(r docker.Resources) (map[string]specs.LinuxBlockIODevice, error) {
	var files []string
	for _, w := range r.BlkioWeightDevice {
		files = append(files, w.Path)
	}
	for _, list := range [][]*blkiodev.ThrottleDevice{
		r.BlkioDeviceReadBps, r.BlkioDeviceWriteBps, r.BlkioDeviceReadIOps, r.BlkioDeviceWriteIOps,
	} {
		for _, t := range list {
			files = append(files, t.Path)
		}
	}
	var numbers map[string]specs.LinuxBlockIODevice
	for _, file := range files {
		d, err := device(file, file)
		if err != nil {
			return nil, unusable("cannot limit the device "+file, file, err)
		}
		if numbers == nil {
			numbers = map[string]specs.LinuxBlockIODevice{}
		}
		numbers[file] = specs.LinuxBlockIODevice{Major: d.Major, Minor: d.Minor}
	}
	return numbers, nil
}
