package compose

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/image"

	"github.com/kistdev/kist/internal/cli"
	"github.com/kistdev/kist/internal/compose/model"
	"github.com/kistdev/kist/internal/compose/screen"
)

// imageWishes say where images come from.
type imageWishes struct {
	// pull is --pull: always, missing, never, or empty for each service's own.
	pull string
	// build builds what can be, noBuild nothing.
	build, noBuild bool
	quietPull      bool
}

// picture is a service's image as the daemon has it.
type picture struct {
	// id is the digest of what runs: the platform's manifest, or the image where the daemon does not tell manifests. ids are all
	// digests that mean the same.
	id      string
	ids     []string
	volumes map[string]struct{}
}

// ensureImages pulls and builds what is missing, and returns the image of each service.
func (s *stack) ensureImages(p *types.Project, w imageWishes) (map[string]picture, error) {
	names := slices.Sorted(maps.Keys(p.Services))
	have, err := s.pictures(p, names)
	if err != nil {
		return nil, err
	}
	var pull, build, changed []string
	pulled := map[string]bool{}
	for _, name := range names {
		svc := p.Services[name]
		if svc.Provider != nil {
			continue
		}
		what, err := wanted(&svc, w, have[name] != nil)
		if err != nil {
			return nil, err
		}
		switch what {
		case "pull":
			changed = append(changed, name)
			if ref := model.ImageName(p.Name, &svc) + "|" + svc.Platform; !pulled[ref] {
				pulled[ref] = true
				pull = append(pull, name)
			}
		case "build":
			changed, build = append(changed, name), append(build, name)
		}
	}
	more, err := s.pullAll(p, pull, have, w)
	if err != nil {
		return nil, err
	}
	build = append(build, more...)
	if len(build) > 0 {
		if err := s.buildAll(p, build, buildWishes{}); err != nil {
			return nil, err
		}
	}
	if len(changed) > 0 {
		now, err := s.pictures(p, names)
		if err != nil {
			return nil, err
		}
		have = now
	}
	out := map[string]picture{}
	for name, i := range have {
		if i == nil {
			continue
		}
		svc := p.Services[name]
		out[name] = pictureOf(i, platformOf(p, &svc))
	}
	return out, nil
}

// pictureOf is an image for a platform; any if that is empty.
func pictureOf(i *image.InspectResponse, platform string) picture {
	pic := picture{id: i.ID, ids: []string{i.ID}}
	if i.Config != nil {
		pic.volumes = i.Config.Volumes
	}
	if platform == "" {
		platform = i.Os + "/" + i.Architecture
	}
	for _, m := range i.Manifests {
		if m.Kind != image.ManifestKindImage || m.ImageData == nil || !m.Available {
			continue
		}
		if at := m.ImageData.Platform; platform == at.OS+"/"+at.Architecture || platform == at.OS+"/"+at.Architecture+"/"+at.Variant {
			pic.id = m.ID
			pic.ids = append(pic.ids, m.ID)
			break
		}
	}
	return pic
}

// wanted tells what is to be done for a service's image: "pull", "build", or nothing.
func wanted(svc *types.ServiceConfig, w imageWishes, there bool) (string, error) {
	policy, _, err := svc.GetPullPolicy()
	if err != nil {
		return "", err
	}
	explicit := svc.PullPolicy != ""
	if w.pull != "" && w.pull != "policy" {
		policy, explicit = w.pull, true
	}
	if svc.Build != nil {
		switch {
		case w.noBuild && !there:
			if explicit && policy != types.PullPolicyNever && policy != types.PullPolicyBuild {
				return "pull", nil
			}
			return "", cli.Hinted(fmt.Errorf("service %s: its image is not there, and --no-build was said", svc.Name), "kist compose build "+svc.Name)
		case w.noBuild:
			return "", nil
		case w.build, policy == types.PullPolicyBuild:
			return "build", nil
		case explicit && policy == types.PullPolicyAlways, explicit && !there && policy != types.PullPolicyNever:
			return "pull", nil
		case !there:
			return "build", nil
		}
		return "", nil
	}
	switch policy {
	case types.PullPolicyAlways, types.PullPolicyRefresh:
		return "pull", nil
	case types.PullPolicyNever:
		return "", nil
	}
	if there {
		return "", nil
	}
	return "pull", nil
}

// pictures asks for the services' images at the same time; those that are not there are nil.
func (s *stack) pictures(p *types.Project, names []string) (map[string]*image.InspectResponse, error) {
	var refs []string
	for _, n := range names {
		svc := p.Services[n]
		if ref := model.ImageName(p.Name, &svc); !slices.Contains(refs, ref) {
			refs = append(refs, ref)
		}
	}
	var mu sync.Mutex
	byRef := map[string]*image.InspectResponse{}
	err := each(s, refs, func(ref string) error {
		i, err := s.image(ref)
		if cli.ImageMissing(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look at image %s: %w", ref, err)
		}
		mu.Lock()
		defer mu.Unlock()
		byRef[ref] = i
		return nil
	})
	out := map[string]*image.InspectResponse{}
	for _, n := range names {
		svc := p.Services[n]
		out[n] = byRef[model.ImageName(p.Name, &svc)]
	}
	return out, err
}

// pullAll pulls the images of services at the same time. Those that cannot be pulled but built are returned.
func (s *stack) pullAll(p *types.Project, names []string, have map[string]*image.InspectResponse, w imageWishes) (build []string, err error) {
	var mu sync.Mutex
	err = each(s, names, func(name string) error {
		svc := p.Services[name]
		err := s.pullService(p, &svc, w.quietPull)
		if err == nil {
			return nil
		}
		if svc.Build != nil && !w.noBuild {
			mu.Lock()
			defer mu.Unlock()
			build = append(build, name)
			return nil
		}
		if have[name] != nil && w.pull != types.PullPolicyAlways && svc.PullPolicy != types.PullPolicyAlways {
			s.board.Note("warning: " + name + ": the image that is here is used: " + err.Error())
			return nil
		}
		return fmt.Errorf("service %s: %w", name, err)
	})
	return build, err
}

// pullService pulls a service's image and shows how far it is.
func (s *stack) pullService(p *types.Project, svc *types.ServiceConfig, quiet bool) error {
	ref := model.ImageName(p.Name, svc)
	s.set("Image", ref, "pulling", screen.Working)
	err := s.tool.Pull(ref, platformOf(p, svc), func(have, total int64) {
		if !quiet {
			detail := units.HumanSize(float64(have)) + "/" + units.HumanSize(float64(total))
			s.board.Set(screen.Row{Kind: "Image", Name: ref, State: "pulling", Detail: detail})
		}
	})
	if err != nil {
		s.failed("Image", ref, "not pulled")
		return fmt.Errorf("pull %s: %w", ref, err)
	}
	s.set("Image", ref, "pulled", screen.Done)
	return nil
}

// platformOf is the platform that a service is to have, if anybody says.
func platformOf(p *types.Project, svc *types.ServiceConfig) string {
	if svc.Platform != "" {
		return svc.Platform
	}
	return p.Environment["DOCKER_DEFAULT_PLATFORM"]
}
