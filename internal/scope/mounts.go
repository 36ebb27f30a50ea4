package scope

import (
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

// mounts allows volumes of the project, and the paths that the socket has. Volumes come last: making them has an effect.
func (s *Scope) mounts(h *container.HostConfig, o Objects) error {
	var volumes []string
	for _, b := range h.Binds {
		parts := strings.Split(b, ":")
		switch {
		case len(parts) < 2:
			continue // The engine refuses it.
		case !strings.HasPrefix(parts[0], "/"):
			volumes = append(volumes, parts[0])
		default:
			words := strings.Split(strings.Join(parts[2:], ":"), ",")
			for _, w := range words {
				if !slices.Contains([]string{"", "ro", "rw", "z", "Z", "cached", "delegated", "consistent", "private", "rprivate"}, w) {
					return s.Refuse("the mount mode " + w)
				}
			}
			if err := s.bind(parts[0], slices.Contains(words, "ro")); err != nil {
				return err
			}
		}
	}
	for _, m := range h.Mounts {
		name, err := s.mount(m)
		if err != nil {
			return err
		}
		if name != "" {
			volumes = append(volumes, name)
		}
	}
	for _, name := range volumes {
		if err := o.Volume(name); err != nil {
			return err
		}
	}
	return nil
}

// mount checks one mount, and returns the volume that it names.
func (s *Scope) mount(m mount.Mount) (volume string, err error) {
	switch m.Consistency {
	case "", mount.ConsistencyDefault, mount.ConsistencyCached, mount.ConsistencyDelegated, mount.ConsistencyFull:
	default:
		return "", s.Refuse("the mount mode " + string(m.Consistency))
	}
	switch m.Type {
	case mount.TypeBind:
		if b := m.BindOptions; b != nil && !slices.Contains([]mount.Propagation{"", mount.PropagationPrivate, mount.PropagationRPrivate}, b.Propagation) {
			return "", s.Refuse("the mount propagation " + string(b.Propagation))
		}
		return "", s.bind(m.Source, m.ReadOnly)
	case mount.TypeVolume:
		if v := m.VolumeOptions; v != nil {
			if _, err := s.Mark(v.Labels); err != nil {
				return "", err
			}
			if d := v.DriverConfig; d != nil {
				if err := s.Volume(d.Name, d.Options); err != nil {
					return "", err
				}
				if len(d.Options) > 0 {
					return "", s.Refuse("a volume with options in a mount (make it first)")
				}
			}
		}
		return m.Source, nil
	case mount.TypeTmpfs, mount.TypeImage:
		return "", nil
	}
	return "", s.Refuse("a mount of type " + string(m.Type))
}

// bind allows a path only as it was listed: below it a container could put a symbolic link to any other place.
func (s *Scope) bind(source string, readOnly bool) error {
	whole := strings.TrimSuffix(source, "/")
	onlyRead, ok := s.binds[whole]
	switch {
	case !ok || path.Clean(whole) != whole:
		return s.Refuse("mounting " + source)
	case onlyRead && !readOnly:
		return s.Refuse("mounting " + source + " for writing")
	}
	return nil
}

// Volume allows volumes that are plain directories, or tmpfs with a size, an owner and a mode.
func (s *Scope) Volume(driver string, options map[string]string) error {
	if s.Project == "" {
		return nil
	}
	if driver != "" && driver != "local" {
		return s.Refuse("the volume driver " + driver)
	}
	if len(options) == 0 {
		return nil
	}
	for key, value := range options {
		fine := key == "type" && value == "tmpfs" || key == "device" && (value == "tmpfs" || value == "none")
		if key == "o" {
			fine = !slices.ContainsFunc(strings.Split(value, ","), func(word string) bool {
				name, _, _ := strings.Cut(word, "=")
				return !slices.Contains([]string{"size", "nr_inodes", "uid", "gid", "mode"}, name)
			})
		}
		if !fine || options["type"] != "tmpfs" {
			return s.Refuse("the volume option " + key + "=" + value)
		}
	}
	return nil
}
