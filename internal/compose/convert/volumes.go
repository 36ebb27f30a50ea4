package convert

import (
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/volume"

	"github.com/kistdev/kist/internal/compose/model"
)

// volumes are a container's: as binds where they can say it, which makes directories that are missing, else as mounts.
func volumes(in *Input) (binds []string, mounts []mount.Mount, err error) {
	taken := map[string]bool{}
	kept, targets := anonymous(in)
	for _, m := range kept {
		taken[m.Target] = true
		mounts = append(mounts, m)
	}
	for i := range in.Service.Volumes {
		v := &in.Service.Volumes[i]
		if targets[v.Target] {
			continue
		}
		taken[v.Target] = true
		if b, ok := bind(in.Project, v); ok {
			binds = append(binds, b)
			continue
		}
		m, err := mounted(in.Project, v)
		if err != nil {
			return nil, nil, fmt.Errorf("service %s: %w", in.Service.Name, err)
		}
		mounts = append(mounts, m)
	}
	files, err := Files(in.Project, &in.Service)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range files {
		if f.Path != "" && !taken[f.Target] {
			taken[f.Target] = true
			mounts = append(mounts, mount.Mount{
				Type: mount.TypeBind, Source: f.Path, Target: f.Target, ReadOnly: true, BindOptions: &mount.BindOptions{},
			})
		}
	}
	slices.SortFunc(mounts, func(a, b mount.Mount) int { return strings.Compare(a.Target, b.Target) })
	return binds, mounts, nil
}

// anonymous are the volumes without a name that go on in the container that takes the place of another: those of the image and
// those of the file. targets are the paths in the file that are done with.
func anonymous(in *Input) (kept []mount.Mount, targets map[string]bool) {
	targets = map[string]bool{}
	for i := range in.Kept {
		m := &in.Kept[i]
		if m.Type != mount.TypeVolume || m.Name == "" {
			continue
		}
		_, ofImage := in.ImageVolumes[m.Destination]
		named := false
		for _, v := range in.Service.Volumes {
			if v.Target == m.Destination {
				ofImage, named = false, v.Source != ""
				targets[v.Target] = targets[v.Target] || v.Source == "" && v.Type == types.VolumeTypeVolume
			}
		}
		if named || !ofImage && !targets[m.Destination] {
			continue
		}
		kept = append(kept, mount.Mount{Type: mount.TypeVolume, Source: m.Name, Target: m.Destination, ReadOnly: !m.RW})
	}
	return kept, targets
}

// bind is a volume in the form SOURCE:TARGET:OPTIONS, if it asks for nothing else.
func bind(p *types.Project, v *types.ServiceVolumeConfig) (string, bool) {
	source := v.Source
	switch v.Type {
	case types.VolumeTypeBind:
		if b := v.Bind; b != nil && (!bool(b.CreateHostPath) || b.Propagation != "" || b.Recursive != "") {
			return "", false
		}
		if strings.Contains(source, ":") {
			return "", false
		}
	case types.VolumeTypeVolume:
		named, ok := p.Volumes[source]
		if o := v.Volume; !ok || o != nil && (len(o.Labels) > 0 || o.Subpath != "" || o.NoCopy) {
			return "", false
		}
		source = named.Name
	default:
		return "", false
	}
	if strings.Contains(v.Target, ":") {
		return "", false
	}
	mode := "rw"
	if v.ReadOnly {
		mode = "ro"
	}
	if v.Bind != nil && v.Bind.SELinux != "" {
		mode += "," + v.Bind.SELinux
	}
	return source + ":" + v.Target + ":" + mode, true
}

// mounted is a volume as a mount.
func mounted(p *types.Project, v *types.ServiceVolumeConfig) (mount.Mount, error) {
	m := mount.Mount{
		Type: mount.Type(v.Type), Source: v.Source, Target: v.Target, ReadOnly: v.ReadOnly, Consistency: mount.Consistency(v.Consistency),
	}
	switch v.Type {
	case types.VolumeTypeBind:
		if b := v.Bind; b != nil {
			m.BindOptions = &mount.BindOptions{Propagation: mount.Propagation(b.Propagation), CreateMountpoint: bool(b.CreateHostPath)}
			switch b.Recursive {
			case "disabled":
				m.BindOptions.NonRecursive = true
			case "writable":
				m.BindOptions.ReadOnlyNonRecursive = true
			case "readonly":
				m.BindOptions.ReadOnlyForceRecursive = true
			}
		}
	case types.VolumeTypeVolume:
		if named, ok := p.Volumes[v.Source]; ok {
			m.Source = named.Name
		}
		if o := v.Volume; o != nil {
			m.VolumeOptions = &mount.VolumeOptions{NoCopy: o.NoCopy, Subpath: o.Subpath, Labels: o.Labels}
		}
	case types.VolumeTypeTmpfs:
		if o := v.Tmpfs; o != nil {
			m.TmpfsOptions = &mount.TmpfsOptions{SizeBytes: int64(o.Size), Mode: fs.FileMode(o.Mode)}
		}
	case types.VolumeTypeImage:
		if o := v.Image; o != nil {
			m.ImageOptions = &mount.ImageOptions{Subpath: o.SubPath}
		}
	default:
		return m, fmt.Errorf("volume %s: type %s is not served: %w", v.Target, v.Type, errdefs.ErrNotImplemented)
	}
	return m, nil
}

// File is a secret or a config in a container.
type File struct {
	// Kind is secret or config, Name what the project calls it.
	Kind, Name string
	// Target is where it is in the container.
	Target string
	// Path is a file of this machine that is mounted; without one, Content is written.
	Path    string
	Content []byte
	// UID, GID and Mode are those of a file that is written.
	UID, GID string
	Mode     fs.FileMode
}

// Files are a service's secrets and configs.
func Files(p *types.Project, s *types.ServiceConfig) ([]File, error) {
	var files []File
	for _, r := range s.Secrets {
		f, err := file(p, "secret", "/run/secrets", types.FileReferenceConfig(r), types.FileObjectConfig(p.Secrets[r.Source]))
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", s.Name, err)
		}
		files = append(files, f)
	}
	for _, r := range s.Configs {
		f, err := file(p, "config", "/", types.FileReferenceConfig(r), types.FileObjectConfig(p.Configs[r.Source]))
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", s.Name, err)
		}
		files = append(files, f)
	}
	return files, nil
}

func file(p *types.Project, kind, dir string, r types.FileReferenceConfig, o types.FileObjectConfig) (File, error) {
	f := File{Kind: kind, Name: r.Source, Target: r.Target, UID: r.UID, GID: r.GID, Mode: 0o444}
	if r.Mode != nil {
		f.Mode = fs.FileMode(*r.Mode) & 0o7777
	}
	if f.Target == "" {
		f.Target = r.Source
	}
	if !filepath.IsAbs(f.Target) {
		f.Target = filepath.Join(dir, f.Target)
	}
	switch {
	case bool(o.External):
		return f, fmt.Errorf("%s %s is external, which only Swarm has: %w", kind, r.Source, errdefs.ErrNotImplemented)
	case o.Driver != "" || o.TemplateDriver != "":
		return f, fmt.Errorf("%s %s: driver and template_driver are Swarm's: %w", kind, r.Source, errdefs.ErrNotImplemented)
	case o.Content != "":
		f.Content = []byte(o.Content)
	case o.Environment != "":
		value, ok := p.Environment[o.Environment]
		if !ok {
			return f, fmt.Errorf("%s %s: the variable %s is not set: %w", kind, r.Source, o.Environment, errdefs.ErrInvalidArgument)
		}
		f.Content = []byte(value)
	default:
		f.Path = o.File
	}
	return f, nil
}

// Volume makes the request for a volume of the project's.
func Volume(p *types.Project, key string) (*volume.CreateRequest, error) {
	v := p.Volumes[key]
	hash, err := model.VolumeHash(v)
	if err != nil {
		return nil, err
	}
	r := &volume.CreateRequest{Name: v.Name, Driver: v.Driver, DriverOpts: v.DriverOpts, Labels: map[string]string{}}
	maps.Copy(r.Labels, v.Labels)
	maps.Copy(r.Labels, map[string]string{
		model.LabelVolume: key, model.LabelProject: p.Name, model.LabelVersion: model.Spoken, model.LabelHash: hash,
	})
	return r, nil
}

// Resolve puts containers in the place of services: the first one of each. Those that are not there yet are left as they are.
func Resolve(s types.ServiceConfig, first func(service string) (container string, ok bool)) types.ServiceConfig {
	mode := func(value string) string {
		if name, ok := strings.CutPrefix(value, types.ServicePrefix); ok {
			if id, ok := first(name); ok {
				return types.ContainerPrefix + id
			}
		}
		return value
	}
	s.NetworkMode, s.Ipc, s.Pid = mode(s.NetworkMode), mode(s.Ipc), mode(s.Pid)
	from := make([]string, len(s.VolumesFrom))
	for i, v := range s.VolumesFrom {
		from[i] = v
		if name, ok := strings.CutPrefix(v, types.ContainerPrefix); ok {
			from[i] = name
			continue
		}
		name, access, hasAccess := strings.Cut(v, ":")
		if id, ok := first(name); ok {
			if from[i] = id; hasAccess && access != "" {
				from[i] += ":" + access
			}
		}
	}
	if len(from) > 0 {
		s.VolumesFrom = from
	}
	return s
}

// Shared are the services whose containers a service's refer to.
func Shared(s *types.ServiceConfig) []string {
	var names []string
	for _, mode := range []string{s.NetworkMode, s.Ipc, s.Pid} {
		if name, ok := strings.CutPrefix(mode, types.ServicePrefix); ok {
			names = append(names, name)
		}
	}
	for _, v := range s.VolumesFrom {
		if !strings.HasPrefix(v, types.ContainerPrefix) {
			name, _, _ := strings.Cut(v, ":")
			names = append(names, name)
		}
	}
	return names
}
