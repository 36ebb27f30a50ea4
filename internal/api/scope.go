package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/system"

	"github.com/kistdev/kist/internal/engine"
	"github.com/kistdev/kist/internal/filter"
	"github.com/kistdev/kist/internal/scope"
)

type scopeKey struct{}

// Limit has requests that come with the context kept within the scope.
func Limit(ctx context.Context, to *scope.Scope) context.Context {
	return context.WithValue(ctx, scopeKey{}, to)
}

// scope is what the request is limited to, nil for nothing.
func (r *request) scope() *scope.Scope {
	to, _ := r.Context().Value(scopeKey{}).(*scope.Scope)
	return to
}

// project is scope where that is limited to a project, nil otherwise.
func (r *request) project() *scope.Scope {
	if to := r.scope(); to != nil && to.Project != "" {
		return to
	}
	return nil
}

// right is what sockets of narrower scope may do with an operation.
type right struct {
	// reads says whether a request changes nothing; nil means that it does.
	reads func(r *request) bool
	// own checks, for a project's socket, that what the path names is the project's; nil means that such a socket does not have
	// the operation at all.
	own func(s *Server, r *request) error
}

func always(*request) bool { return true }

// watching is attaching without input.
func watching(r *request) bool {
	return !r.boolean("stdin") && (r.Method == http.MethodPost || r.version >= 42)
}

// anyones is for what tells or changes nothing of others, and for what the handler itself confines to the project.
func anyones(*Server, *request) error { return nil }

// permit refuses what the request's socket does not have.
func (s *Server) permit(pattern string, r *request) error {
	to := r.scope()
	if to == nil {
		return nil
	}
	can := rights[pattern]
	if to.ReadOnly && (can.reads == nil || !can.reads(r)) || to.Project != "" && can.own == nil {
		return to.Refuse(r.Method + " " + r.URL.Path)
	}
	if to.Project == "" {
		return nil
	}
	return can.own(s, r)
}

// objects finds what belongs to the project of a socket. What does not is as good as not there.
type objects struct {
	s   *Server
	ctx context.Context //nolint:containedctx // lives as long as the call that it is made for
	to  *scope.Scope
}

// Container is an error unless the container is the project's.
func (o objects) Container(ref string) error {
	_, err := o.container(ref)
	return err
}

func (o objects) container(ref string) (id string, err error) {
	c, err := o.s.Containers.Inspect(o.ctx, ref, false)
	if err != nil {
		return "", err
	}
	if c.Config == nil || !o.to.Owns(c.Config.Labels) {
		return "", fmt.Errorf("No such container: %s: %w", ref, errdefs.ErrNotFound) //nolint:staticcheck // docker's words
	}
	return c.ID, nil
}

// Network is an error unless the network is the project's.
func (o objects) Network(ref string) error {
	_, err := o.network(ref)
	return err
}

func (o objects) network(ref string) (id string, err error) {
	n, err := o.s.Networks.Inspect(o.ctx, ref)
	if err != nil {
		return "", err
	}
	if !o.to.Owns(n.Labels) {
		return "", fmt.Errorf("network %s not found: %w", ref, errdefs.ErrNotFound)
	}
	return n.ID, nil
}

// Volume is an error unless the volume is the project's; one that is not there is made.
func (o objects) Volume(name string) error {
	labels, err := o.to.Mark(nil)
	if err != nil {
		return err
	}
	v, _, err := o.s.Volumes.Ensure(o.ctx, name, "", labels, nil)
	if err == nil && !o.to.Owns(v.Labels) {
		err = o.to.Refuse("the volume " + name + ", which is not the project's,")
	}
	return err
}

func (s *Server) objects(r *request) objects { return objects{s, r.Context(), r.project()} }

// ownContainer also puts the id in the place of a name: whatever is done is done to what was looked at.
func ownContainer(s *Server, r *request) error {
	id, err := s.objects(r).container(r.PathValue("id"))
	if err == nil {
		r.SetPathValue("id", id)
	}
	return err
}

func ownExec(s *Server, r *request) error {
	x, err := s.Containers.ExecInspect(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if s.objects(r).Container(x.ContainerID) != nil {
		return fmt.Errorf("No such exec instance: %s: %w", r.PathValue("id"), errdefs.ErrNotFound) //nolint:staticcheck // docker's words
	}
	return nil
}

func ownNetwork(s *Server, r *request) error {
	id, err := s.objects(r).network(r.PathValue("id"))
	if err == nil {
		r.SetPathValue("id", id)
	}
	return err
}

func ownVolume(s *Server, r *request) error {
	v, err := s.Volumes.Inspect(r.Context(), r.PathValue("name"))
	if err == nil && !r.project().Owns(v.Labels) {
		err = fmt.Errorf("get %s: no such volume: %w", r.PathValue("name"), errdefs.ErrNotFound)
	}
	return err
}

// scopedFilters are the request's filters, with the project's label among them on a project's socket.
func (r *request) scopedFilters() (filter.Args, error) {
	f, err := r.filters()
	if to := r.project(); err == nil && to != nil {
		if f == nil {
			f = filter.Args{}
		}
		f["label"] = append(slices.Clone(f["label"]), to.Filter())
	}
	return f, err
}

// confine holds a request for a container against the socket's scope.
func (s *Server) confine(r *request, req *container.CreateRequest) error {
	to := r.project()
	if to == nil {
		return nil
	}
	return to.Container(req, s.objects(r))
}

// visible says whether the request's socket shows an event.
func (s *Server) visible(r *request, m events.Message) bool {
	to := r.project()
	if to == nil {
		return true
	}
	switch m.Type {
	case events.ContainerEventType:
		return to.Owns(m.Actor.Attributes)
	case events.NetworkEventType:
		return m.Actor.ID != "" && s.objects(r).Network(m.Actor.ID) == nil
	case events.VolumeEventType:
		v, err := s.Volumes.Inspect(r.Context(), m.Actor.ID)
		return err == nil && to.Owns(v.Labels)
	}
	return false
}

// infoFor counts the project's containers only, on its socket.
func (s *Server) infoFor(r *request, info *system.Info) error {
	if r.project() == nil {
		return nil
	}
	f, err := r.scopedFilters()
	if err != nil {
		return err
	}
	list, err := s.Containers.List(r.Context(), engine.ListOptions{All: true, Filters: f})
	if err != nil {
		return err
	}
	info.Containers, info.ContainersRunning, info.ContainersPaused = len(list), 0, 0
	for _, c := range list {
		switch c.State {
		case container.StateRunning, container.StateRestarting:
			info.ContainersRunning++
		case container.StatePaused:
			info.ContainersPaused++
		}
	}
	info.ContainersStopped = info.Containers - info.ContainersRunning - info.ContainersPaused
	return nil
}
