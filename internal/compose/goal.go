package compose

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/compose/model"
)

// goal is how a project is to be.
type goal struct {
	p      *types.Project
	images map[string]picture
	// networks are the ids by key.
	networks map[string]string
	// targets are the services that were named; what they depend on is made anew only when it changed.
	targets        []string
	recreate       recreate
	recreateDeps   bool
	freshVolumes   bool // anonymous volumes are not kept
	patience       *int
	rolling        bool
	noStart        bool
	waitsForNobody bool // --no-deps

	mu      sync.Mutex // guards what is below
	present fleet
	wants   map[string]*want
}

// newGoal is the part of the project that a command is about.
func (s *stack) newGoal(f *upFlags, targets []string) (*goal, error) {
	p := s.project
	if len(p.Jobs) > 0 {
		return nil, fmt.Errorf("the section jobs is not served: %w", errdefs.ErrNotImplemented)
	}
	var err error
	if len(targets) > 0 {
		option := types.IncludeDependencies
		if f.noDeps {
			option = types.IgnoreDependencies
		}
		if p, err = p.WithSelectedServices(targets, option); err != nil {
			return nil, err
		}
	}
	p = p.WithoutUnresolvedOptionalDependencies().WithoutUnnecessaryResources()
	if err := p.CheckContainerNameUnicity(); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if p, err = scaled(p, f.scale); err != nil {
		return nil, err
	}
	g := &goal{
		p: p, targets: targets, recreateDeps: f.recreateDeps, freshVolumes: f.freshVolumes, rolling: f.rolling, noStart: f.noStart,
		waitsForNobody: f.noDeps, wants: map[string]*want{},
	}
	switch {
	case f.force:
		g.recreate = always
	case f.noRecreate:
		g.recreate = never
	}
	return g, nil
}

// scaled sets the numbers of containers that --scale says.
func scaled(p *types.Project, list []string) (*types.Project, error) {
	for _, one := range list {
		name, number, ok := strings.Cut(one, "=")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || n < 0 {
			return nil, fmt.Errorf("invalid --scale %q: use SERVICE=NUMBER", one)
		}
		if err := model.Names(p.ServiceNames()).Check("service", name); err != nil {
			return nil, err
		}
		svc := p.Services[name]
		if svc.Deploy != nil {
			d := *svc.Deploy
			svc.Deploy = &d
		}
		svc.SetScale(n)
		p.Services[name] = svc
	}
	return p, nil
}

// prepare has images, networks and volumes ready, and looks up what containers there are.
func (s *stack) prepare(g *goal, f *upFlags) error {
	var there resources
	err := together(
		func() (err error) { g.images, err = s.ensureImages(g.p, f.images); return err },
		func() (err error) { there, err = s.resources(g.p); return err },
	)
	if err != nil {
		return err
	}
	err = together(
		func() (err error) { g.networks, err = s.ensureNetworks(g.p, there.networks); return err },
		func() error { return s.ensureVolumes(g.p, there.volumes) },
		func() (err error) { g.present, err = s.containers(); return err },
	)
	if err != nil {
		return err
	}
	return s.orphans(g, f.removeOrphans)
}

// together does several things at the same time, and returns all failures.
func together(all ...func() error) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, do := range all {
		wg.Go(func() { errs[i] = do() })
	}
	wg.Wait()
	return errors.Join(errs...)
}
