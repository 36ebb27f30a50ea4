package engine

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

// mountPoint is one thing that a person, or the image, wants mounted.
type mountPoint struct {
	Type   mount.Type
	Name   string `json:",omitempty"` // of the volume
	Driver string `json:",omitempty"`
	Source string `json:",omitempty"` // path on the host
	Target string
	// Mode is the third part of -v, shown as it was written.
	Mode        string            `json:",omitempty"`
	ReadOnly    bool              `json:",omitempty"`
	Propagation mount.Propagation `json:",omitempty"`
	Subpath     string            `json:",omitempty"` // inside the volume
	NoCopy      bool              `json:",omitempty"` // leave a fresh volume empty
	// NonRecursive leaves out what is mounted below the source; ReadOnlyNonRecursive makes only the mount itself
	// read-only, ReadOnlyForceRecursive insists on all below it.
	NonRecursive           bool     `json:",omitempty"`
	ReadOnlyNonRecursive   bool     `json:",omitempty"`
	ReadOnlyForceRecursive bool     `json:",omitempty"`
	Tmpfs                  []string `json:",omitempty"` // mount options
	// IDMap has the owner of the source and the user of the container trade places: each sees the other's files as its own.
	IDMap bool `json:",omitempty"`
	// Root is the layer store's name for the root filesystem of a mounted image.
	Root string `json:",omitempty"`
	// Anonymous volumes are removed with their container.
	Anonymous bool `json:",omitempty"`
	// MakeSource makes a missing source as a directory, as -v does.
	MakeSource bool `json:",omitempty"`

	labels, options map[string]string // for a volume that is to be made
}

// shown is the mount point as inspect shows it.
func (m *mountPoint) shown() docker.MountPoint {
	p := docker.MountPoint{
		Type: m.Type, Name: m.Name, Source: m.Source, Destination: m.Target, Driver: m.Driver,
		Mode: m.Mode, RW: !m.ReadOnly, Propagation: m.Propagation,
	}
	if m.Type == mount.TypeBind && p.Propagation == "" {
		p.Propagation = mount.PropagationRPrivate
	}
	return p
}

// parseBind reads one -v: [source:]target[:mode].
func parseBind(spec string) (mountPoint, error) {
	parts := strings.Split(spec, ":")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
		return mountPoint{}, invalid("invalid volume specification: '%s'", spec)
	}
	m := mountPoint{Type: mount.TypeVolume, Name: parts[0], Target: parts[1]}
	if strings.HasPrefix(parts[0], "/") {
		m.Type, m.Name, m.Source, m.MakeSource = mount.TypeBind, "", path.Clean(parts[0]), true
	}
	if len(parts) == 3 {
		m.Mode = parts[2]
		if err := m.applyMode(parts[2]); err != nil {
			return mountPoint{}, fmt.Errorf("invalid volume specification: '%s': %w", spec, err)
		}
	}
	if err := m.clean(); err != nil {
		return mountPoint{}, fmt.Errorf("invalid volume specification: '%s': %w", spec, err)
	}
	return m, nil
}

// modeIDMap asks for an idmapped mount: a word of -v's mode, and in the API's Mount of its consistency, which means nothing
// else on Linux and which docker's own clients pass on.
const modeIDMap = "idmap"

func (m *mountPoint) applyMode(mode string) error {
	access := 0
	for word := range strings.SplitSeq(mode, ",") {
		switch word {
		case "ro", "rw":
			m.ReadOnly = word == "ro"
			access++
		case "z", "Z", "cached", "delegated", "consistent": // labels and caches that this kernel does not have
		case modeIDMap:
			m.IDMap = true
		case "nocopy":
			if m.Type != mount.TypeVolume {
				return invalid("invalid mode: %s", mode)
			}
			m.NoCopy = true
		default:
			if m.Type != mount.TypeBind || !slices.Contains(mount.Propagations, mount.Propagation(word)) || m.Propagation != "" {
				return invalid("invalid mode: %s", mode)
			}
			m.Propagation = mount.Propagation(word)
		}
	}
	if access > 1 {
		return invalid("invalid mode: %s", mode)
	}
	return nil
}

// clean checks and tidies the target.
func (m *mountPoint) clean() error {
	if m.Target == "" {
		return invalid("invalid mount config for type %q: field Target must not be empty", m.Type)
	}
	if !path.IsAbs(m.Target) {
		return invalid("invalid mount config for type %q: invalid mount path: '%s' mount path must be absolute", m.Type, m.Target)
	}
	m.Target = path.Clean(m.Target)
	if m.Target == "/" {
		return invalid("invalid mount config for type %q: invalid specification: destination can't be '/'", m.Type)
	}
	return nil
}

// parseMount reads one --mount.
func parseMount(spec mount.Mount) (mountPoint, error) {
	m := mountPoint{Type: spec.Type, Target: spec.Target, ReadOnly: spec.ReadOnly}
	if err := m.clean(); err != nil {
		return m, err
	}
	if err := foreignOptions(spec); err != nil {
		return m, err
	}
	if m.IDMap = spec.Consistency == modeIDMap; m.IDMap && spec.Type != mount.TypeBind && spec.Type != mount.TypeVolume {
		return m, invalid("invalid mount config for type %q: only binds and volumes can be idmapped", spec.Type)
	}
	switch spec.Type {
	case mount.TypeBind:
		return m, m.fromBind(spec)
	case mount.TypeVolume:
		return m, m.fromVolume(spec)
	case mount.TypeTmpfs:
		return m, m.fromTmpfs(spec)
	case mount.TypeImage:
		return m, m.fromImage(spec)
	}
	return m, invalid("invalid mount config for type %q: mount type unknown", spec.Type)
}

// foreignOptions refuses options of another type than the mount's.
func foreignOptions(m mount.Mount) error {
	for _, o := range []struct {
		kind mount.Type
		name string
		set  bool
	}{
		{mount.TypeBind, "BindOptions", m.BindOptions != nil},
		{mount.TypeVolume, "VolumeOptions", m.VolumeOptions != nil},
		{mount.TypeTmpfs, "TmpfsOptions", m.TmpfsOptions != nil},
		{mount.TypeImage, "ImageOptions", m.ImageOptions != nil},
	} {
		if o.set && o.kind != m.Type {
			return invalid("invalid mount config for type %q: field %s must not be specified", m.Type, o.name)
		}
	}
	return nil
}

func (m *mountPoint) fromBind(spec mount.Mount) error {
	if spec.Source == "" {
		return invalid("invalid mount config for type \"bind\": field Source must not be empty")
	}
	if !path.IsAbs(spec.Source) {
		return invalid("invalid mount config for type \"bind\": invalid mount path: '%s' mount path must be absolute", spec.Source)
	}
	m.Source = path.Clean(spec.Source)
	o := spec.BindOptions
	if o == nil {
		return nil
	}
	if o.Propagation != "" && !slices.Contains(mount.Propagations, o.Propagation) {
		return invalid("invalid mount config for type \"bind\": invalid propagation mode: %s", o.Propagation)
	}
	if o.ReadOnlyForceRecursive && (!spec.ReadOnly || o.NonRecursive || o.ReadOnlyNonRecursive) {
		return invalid("invalid mount config for type \"bind\": ReadOnlyForceRecursive needs a read-only, recursive mount")
	}
	m.Propagation, m.NonRecursive, m.MakeSource = o.Propagation, o.NonRecursive, o.CreateMountpoint
	m.ReadOnlyNonRecursive, m.ReadOnlyForceRecursive = o.ReadOnlyNonRecursive, o.ReadOnlyForceRecursive
	return nil
}

func (m *mountPoint) fromVolume(spec mount.Mount) error {
	m.Name = spec.Source
	o := spec.VolumeOptions
	if o == nil {
		return nil
	}
	m.NoCopy, m.labels = o.NoCopy, o.Labels
	if o.DriverConfig != nil {
		m.Driver, m.options = o.DriverConfig.Name, o.DriverConfig.Options
	}
	if o.Subpath != "" {
		if !filepath.IsLocal(o.Subpath) {
			return invalid("invalid mount config for type \"volume\": subpath must be a relative path within the volume")
		}
		m.Subpath, m.NoCopy = filepath.Clean(o.Subpath), true
	}
	return nil
}

func (m *mountPoint) fromImage(spec mount.Mount) error {
	if spec.Source == "" {
		return invalid("invalid mount config for type \"image\": field Source must not be empty")
	}
	m.Name, m.ReadOnly = spec.Source, true
	if o := spec.ImageOptions; o != nil && o.Subpath != "" {
		if !filepath.IsLocal(o.Subpath) {
			return invalid("invalid mount config for type \"image\": subpath must be a relative path within the image")
		}
		m.Subpath = filepath.Clean(o.Subpath)
	}
	return nil
}

func (m *mountPoint) fromTmpfs(spec mount.Mount) error {
	if spec.Source != "" {
		return invalid("invalid mount config for type \"tmpfs\": field Source must not be specified")
	}
	m.Tmpfs = []string{"noexec", "nosuid", "nodev"}
	o := spec.TmpfsOptions
	if o == nil {
		return nil
	}
	if o.SizeBytes > 0 {
		m.Tmpfs = append(m.Tmpfs, fmt.Sprintf("size=%d", o.SizeBytes))
	}
	if o.Mode != 0 {
		m.Tmpfs = append(m.Tmpfs, fmt.Sprintf("mode=%o", o.Mode))
	}
	for _, kv := range o.Options {
		switch len(kv) {
		case 1, 2:
			m.Tmpfs = append(m.Tmpfs, strings.Join(kv, "="))
		default:
			return invalid("invalid mount config for type \"tmpfs\": invalid option: %q", kv)
		}
	}
	return nil
}
