package compose

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/cli"
	"github.com/kistdev/kist/internal/compose/model"
)

// jobFlags are the flags of a build.
type jobFlags []string

func (f *jobFlags) add(flag string, values ...string) {
	for _, v := range values {
		*f = append(*f, "--"+flag+"="+v)
	}
}

func (f *jobFlags) on(flag string, set bool) {
	if set {
		*f = append(*f, "--"+flag)
	}
}

// buildJob is a service's build as kist build is asked for it.
func buildJob(p *types.Project, name string, w buildWishes) (*cli.BuildJob, error) {
	svc := p.Services[name]
	b := svc.Build
	var f jobFlags
	f.add("tag", append([]string{model.ImageName(p.Name, &svc)}, b.Tags...)...)
	f.add("file", dockerfileOf(b)...)
	f.add("build-arg", append(buildArgs(p, b), w.args...)...)
	for _, k := range slices.Sorted(maps.Keys(b.AdditionalContexts)) {
		f.add("build-context", k+"="+contextRef(p, b.AdditionalContexts[k]))
	}
	for _, k := range slices.Sorted(maps.Keys(b.Labels)) {
		f.add("label", k+"="+b.Labels[k])
	}
	f.add("label", model.LabelProject+"="+p.Name, model.LabelService+"="+name)
	for _, k := range b.SSH {
		f.add("ssh", strings.TrimSuffix(k.ID+"="+k.Path, "="))
	}
	f.add("ssh", w.ssh...)
	f.add("cache-from", b.CacheFrom...)
	f.add("cache-to", b.CacheTo...)
	f.add("no-cache-filter", b.NoCacheFilter...)
	f.add("add-host", sorted(b.ExtraHosts.AsList("="))...)
	f.add("platform", platforms(p, &svc)...)
	f.add("allow", b.Entitlements...)
	f.on("allow=security.insecure", b.Privileged && !slices.Contains(b.Entitlements, "security.insecure"))
	f.on("no-cache", b.NoCache || w.noCache)
	f.on("pull", b.Pull || w.pull)
	f.on("push", w.push)
	f.on("check", w.check)
	for _, o := range []struct{ flag, value string }{
		{"target", b.Target}, {"network", b.Network}, {"provenance", cmp.Or(w.provenance, b.Provenance)}, {"sbom", cmp.Or(w.sbom, b.SBOM)},
	} {
		if o.value != "" {
			f.add(o.flag, o.value)
		}
	}
	if b.ShmSize > 0 {
		f.add("shm-size", strconv.FormatInt(int64(b.ShmSize), 10))
	}
	f.add("ulimit", buildUlimits(b)...)
	secrets, err := buildSecrets(p, name, b)
	if err != nil {
		return nil, err
	}
	return &cli.BuildJob{Name: name, Dockerfile: b.DockerfileInline, Secrets: secrets, Args: append(f, "--", b.Context)}, nil
}

// dockerfileOf is the value of --file, if there is one to give.
func dockerfileOf(b *types.BuildConfig) []string {
	switch {
	case b.DockerfileInline != "":
		return []string{"-"}
	case b.Dockerfile != "" && !isURL(b.Context) && !filepath.IsAbs(b.Dockerfile):
		return []string{filepath.Join(b.Context, b.Dockerfile)}
	case b.Dockerfile != "":
		return []string{b.Dockerfile}
	}
	return nil
}

// buildArgs are the build's own arguments; one without a value has that of the variable of its name.
func buildArgs(p *types.Project, b *types.BuildConfig) []string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(b.Args)) {
		if v := b.Args[k]; v != nil {
			list = append(list, k+"="+*v)
		} else if v, ok := p.Environment[k]; ok {
			list = append(list, k+"="+v)
		}
	}
	return list
}

func buildUlimits(b *types.BuildConfig) []string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(b.Ulimits)) {
		u := b.Ulimits[k]
		soft, hard := u.Single, u.Single
		if u.Soft != 0 || u.Hard != 0 {
			soft, hard = u.Soft, u.Hard
		}
		list = append(list, fmt.Sprintf("%s=%d:%d", k, soft, hard))
	}
	return list
}

// buildSecrets reads the secrets of a build.
func buildSecrets(p *types.Project, name string, b *types.BuildConfig) (map[string][]byte, error) {
	secrets := map[string][]byte{}
	for _, r := range b.Secrets {
		id := r.Target
		if id == "" {
			id = r.Source
		}
		o := p.Secrets[r.Source]
		switch {
		case o.Content != "":
			secrets[id] = []byte(o.Content)
		case o.Environment != "":
			v, ok := p.Environment[o.Environment]
			if !ok {
				return nil, fmt.Errorf("service %s: secret %s: the variable %s is not set: %w", name, r.Source, o.Environment, errdefs.ErrInvalidArgument)
			}
			secrets[id] = []byte(v)
		case o.File != "":
			raw, err := os.ReadFile(o.File)
			if err != nil {
				return nil, fmt.Errorf("service %s: secret %s: %w", name, r.Source, err)
			}
			secrets[id] = raw
		default:
			return nil, fmt.Errorf("service %s: secret %s has neither file nor environment: %w", name, r.Source, errdefs.ErrInvalidArgument)
		}
	}
	return secrets, nil
}

// platforms are those to build for: those of the build, or the service's.
func platforms(p *types.Project, svc *types.ServiceConfig) []string {
	if len(svc.Build.Platforms) > 0 {
		return svc.Build.Platforms
	}
	if one := platformOf(p, svc); one != "" {
		return []string{one}
	}
	return nil
}

// contextRef is a further context; that of another service is its image.
func contextRef(p *types.Project, c string) string {
	name, ok := strings.CutPrefix(c, types.ServicePrefix)
	if !ok {
		return c
	}
	svc := p.Services[name]
	return "docker-image://" + model.ImageName(p.Name, &svc)
}
