package hostinfo

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// hidden are the parts of /dev that are the container's own, or that hold no devices.
var hidden = map[string]bool{
	"pts": true, "shm": true, "fd": true, "mqueue": true, ".lxc": true, ".lxd-mounts": true, ".udev": true, "console": true, "ptmx": true,
}

// devices lists the device nodes below dev, for privileged containers.
func devices(dev string) ([]specs.LinuxDevice, error) {
	var out []specs.LinuxDevice
	err := fs.WalkDir(os.DirFS(dev), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case isGone(err), os.IsPermission(err):
			return nil
		case err != nil:
			return err
		case hidden[strings.Split(name, "/")[0]] && e.IsDir():
			return fs.SkipDir
		case e.IsDir() || hidden[name] || e.Type()&fs.ModeDevice == 0:
			return nil
		}
		d, err := device(path.Join(dev, name), "/dev/"+name)
		if isGone(err) {
			return nil
		}
		if err == nil {
			out = append(out, d)
		}
		return err
	})
	if isGone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing devices: %w", err)
	}
	return out, nil
}

func device(file, as string) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil {
		return specs.LinuxDevice{}, fmt.Errorf("stat %s: %w", file, err)
	}
	mode, uid, gid := os.FileMode(st.Mode&0o7777), st.Uid, st.Gid
	d := specs.LinuxDevice{
		Path: as, Type: "c", Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		FileMode: &mode, UID: &uid, GID: &gid,
	}
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		d.Type = "b"
	}
	return d, nil
}
