package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/mount"
)

// mountFlag collects --mount type=bind,source=/a,target=/b,...
type mountFlag struct {
	values []mount.Mount
}

func (f *mountFlag) String() string { return "" }
func (f *mountFlag) Type() string   { return "mount" }

func (f *mountFlag) Set(s string) error {
	fields, err := csv.NewReader(strings.NewReader(strings.TrimSpace(s))).Read()
	if err != nil {
		return err
	}
	m := mount.Mount{Type: mount.TypeVolume}
	for _, field := range fields {
		k, v, set := strings.Cut(field, "=")
		k = strings.ToLower(strings.TrimSpace(k))
		if k == "type" {
			m.Type = mount.Type(strings.ToLower(v))
		}
		if !set && !mountSwitch(k) {
			return fmt.Errorf("invalid field '%s' must be a key=value pair", field)
		}
		if err := setMountField(&m, k, v, set, field); err != nil {
			return err
		}
	}
	if err := checkMount(&m); err != nil {
		return err
	}
	f.values = append(f.values, m)
	return nil
}

// mountIDMap has the owner of the source and the container's user trade places. The API has no field for it; it travels as
// the mount's consistency, which means nothing else on Linux.
const mountIDMap = "idmap"

// mountSwitch tells that a key may stand alone.
func mountSwitch(k string) bool {
	switch k {
	case "readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src", mountIDMap:
		return true
	}
	return false
}

func setMountField(m *mount.Mount, k, v string, set bool, field string) error {
	truth := func(to *bool) error {
		if !set {
			*to = true
			return nil
		}
		b, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("invalid value for %s: %s", k, v)
		}
		*to = b
		return nil
	}
	switch k {
	case "type":
		return nil
	case "source", "src":
		m.Source = v
		if v == "." || v == ".." || strings.HasPrefix(v, "./") || strings.HasPrefix(v, "../") {
			abs, err := filepath.Abs(v)
			if err != nil {
				return err
			}
			m.Source = abs
		}
		return nil
	case "target", "dst", "destination":
		m.Target = v
		return nil
	case "readonly", "ro":
		return truth(&m.ReadOnly)
	case mountIDMap:
		var on bool
		if err := truth(&on); err != nil || !on {
			return err
		}
		m.Consistency = mountIDMap
		return nil
	case "consistency":
		m.Consistency = mount.Consistency(strings.ToLower(v))
		return nil
	}
	if k == "bind-recursive" && v == "enabled" {
		return nil // as it is without the field
	}
	group, _, _ := strings.Cut(k, "-")
	switch group {
	case "bind":
		return setBindField(bindOptions(m), k, v, truth)
	case "volume":
		return setVolumeField(volumeOptions(m), k, v, truth)
	case "tmpfs":
		return setTmpfsField(m, k, v)
	case "image":
		if k == "image-subpath" {
			if m.ImageOptions == nil {
				m.ImageOptions = &mount.ImageOptions{}
			}
			m.ImageOptions.Subpath = v
			return nil
		}
	}
	return fmt.Errorf("unexpected key '%s' in '%s'", k, field)
}

func bindOptions(m *mount.Mount) *mount.BindOptions {
	if m.BindOptions == nil {
		m.BindOptions = &mount.BindOptions{}
	}
	return m.BindOptions
}

func volumeOptions(m *mount.Mount) *mount.VolumeOptions {
	if m.VolumeOptions == nil {
		m.VolumeOptions = &mount.VolumeOptions{}
	}
	return m.VolumeOptions
}

func setBindField(o *mount.BindOptions, k, v string, truth func(*bool) error) error {
	switch k {
	case "bind-propagation":
		o.Propagation = mount.Propagation(strings.ToLower(v))
	case "bind-nonrecursive":
		return truth(&o.NonRecursive)
	case "bind-create-src":
		return truth(&o.CreateMountpoint)
	case "bind-recursive":
		switch v {
		case "disabled":
			o.NonRecursive = true
		case "writable":
			o.ReadOnlyNonRecursive = true
		case "readonly":
			o.ReadOnlyForceRecursive = true
		default:
			return fmt.Errorf("invalid value for %s: %s (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")", k, v)
		}
	default:
		return fmt.Errorf("unexpected key '%s' in '%s=%s'", k, k, v)
	}
	return nil
}

func setVolumeField(o *mount.VolumeOptions, k, v string, truth func(*bool) error) error {
	driver := func() *mount.Driver {
		if o.DriverConfig == nil {
			o.DriverConfig = &mount.Driver{}
		}
		return o.DriverConfig
	}
	name, value, _ := strings.Cut(v, "=")
	switch k {
	case "volume-subpath":
		o.Subpath = v
	case "volume-nocopy":
		return truth(&o.NoCopy)
	case "volume-label":
		if o.Labels == nil {
			o.Labels = map[string]string{}
		}
		o.Labels[name] = value
	case "volume-driver":
		driver().Name = v
	case "volume-opt":
		if driver().Options == nil {
			driver().Options = map[string]string{}
		}
		driver().Options[name] = value
	default:
		return fmt.Errorf("unexpected key '%s' in '%s=%s'", k, k, v)
	}
	return nil
}

func setTmpfsField(m *mount.Mount, k, v string) error {
	if m.TmpfsOptions == nil {
		m.TmpfsOptions = &mount.TmpfsOptions{}
	}
	switch k {
	case "tmpfs-size":
		n, err := units.RAMInBytes(v)
		if err != nil {
			return fmt.Errorf("invalid value for %s: %s", k, v)
		}
		m.TmpfsOptions.SizeBytes = n
	case "tmpfs-mode":
		n, err := strconv.ParseUint(v, 8, 32)
		if err != nil {
			return fmt.Errorf("invalid value for %s: %s", k, v)
		}
		m.TmpfsOptions.Mode = os.FileMode(n)
	default:
		return fmt.Errorf("unexpected key '%s' in '%s=%s'", k, k, v)
	}
	return nil
}

// checkMount refuses fields that do not belong together.
func checkMount(m *mount.Mount) error {
	if m.Type == "" {
		return errors.New("type is required")
	}
	if m.Target == "" {
		return errors.New("target is required")
	}
	for _, g := range []struct {
		name string
		set  bool
		of   mount.Type
	}{
		{"volume-*", m.VolumeOptions != nil, mount.TypeVolume},
		{"image-*", m.ImageOptions != nil, mount.TypeImage},
		{"bind-*", m.BindOptions != nil, mount.TypeBind},
		{"tmpfs-*", m.TmpfsOptions != nil, mount.TypeTmpfs},
	} {
		if g.set && m.Type != g.of {
			return fmt.Errorf("cannot mix '%s' options with mount type '%s'", g.name, m.Type)
		}
	}
	if b := m.BindOptions; b != nil && (b.ReadOnlyNonRecursive || b.ReadOnlyForceRecursive) && !m.ReadOnly {
		return errors.New("option 'bind-recursive=writable' or 'readonly' requires 'readonly' to be specified in conjunction")
	}
	if b := m.BindOptions; b != nil && b.ReadOnlyForceRecursive && b.Propagation != mount.PropagationRPrivate {
		return errors.New("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction")
	}
	return nil
}
