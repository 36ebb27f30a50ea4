package compose

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/kistdev/kist/internal/compose/model"
)

// found is a container of the project.
type found struct{ container.Summary }

func (c *found) service() string { return c.Labels[model.LabelService] }

// number is the container's among those of its service; 0 if it has none.
func (c *found) number() int {
	n, _ := strconv.Atoi(c.Labels[model.LabelNumber]) // What is none is nobody's.
	return n
}

// oneOff tells a container of `run`, or one of a hook.
func (c *found) oneOff() bool {
	return strings.EqualFold(c.Labels[model.LabelOneOff], "true") || c.Labels[model.LabelHook] != ""
}

// name is what the container is called, without what links call it.
func (c *found) name() string {
	for _, n := range c.Names {
		if strings.LastIndexByte(n, '/') == 0 {
			return n[1:]
		}
	}
	return c.ID[:min(12, len(c.ID))]
}

// short is the name without the project's.
func (c *found) short() string {
	name := c.name()
	if name == c.Labels[model.LabelProject]+"-"+c.service()+"-"+c.Labels[model.LabelNumber] {
		return c.service() + "-" + c.Labels[model.LabelNumber]
	}
	return name
}

func (c *found) running() bool {
	return c.State == container.StateRunning || c.State == container.StateRestarting || c.State == container.StatePaused
}

// fleet are the containers of a project.
type fleet []*found

// containers looks up all containers of the project, those that do not run and those of `run` included.
func (s *stack) containers() (fleet, error) {
	q, err := s.ofProject()
	if err != nil {
		return nil, err
	}
	q.Set("all", "1")
	return s.look(q)
}

func (s *stack) look(q url.Values) (fleet, error) {
	all, err := list[container.Summary](s.cl, "/containers/json", q)
	if err != nil {
		return nil, err
	}
	var f fleet
	for _, c := range all {
		f = append(f, &found{c})
	}
	slices.SortFunc(f, func(a, b *found) int {
		return cmp.Or(cmp.Compare(a.service(), b.service()), cmp.Compare(a.number(), b.number()), cmp.Compare(a.name(), b.name()))
	})
	return f, nil
}

// which are those that a function is true for.
func (f fleet) which(keep func(*found) bool) fleet {
	var out fleet
	for _, c := range f {
		if keep(c) {
			out = append(out, c)
		}
	}
	return out
}

// serving are those of services, not those of `run` and of hooks.
func (f fleet) serving() fleet { return f.which(func(c *found) bool { return !c.oneOff() }) }

// of are those of services, or all if none is named.
func (f fleet) of(services ...string) fleet {
	if len(services) == 0 {
		return f
	}
	return f.which(func(c *found) bool { return slices.Contains(services, c.service()) })
}

// services lists the services that there are containers of.
func (f fleet) services() []string {
	var names []string
	for _, c := range f {
		if !slices.Contains(names, c.service()) {
			names = append(names, c.service())
		}
	}
	slices.Sort(names)
	return names
}

// known checks that services exist: in the project or, where that is known by name only, among the containers.
func (s *stack) known(f fleet, services []string) error {
	var names model.Names
	if s.project != nil {
		names = append(s.project.ServiceNames(), s.project.DisabledServiceNames()...)
	}
	names = append(names, f.services()...)
	for _, name := range services {
		if err := names.Check("service", name); err != nil {
			return err
		}
	}
	return nil
}
