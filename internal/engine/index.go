package engine

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/typo"
)

// index finds containers by id, name or unique prefix of an id, and keeps names unique.
type index struct {
	mu     sync.RWMutex // guards both maps
	byID   map[string]*container
	byName map[string]*container
}

func newIndex() *index {
	return &index{byID: map[string]*container{}, byName: map[string]*container{}}
}

// add enters the container under its id and name, or says who has the name.
func (x *index) add(c *container) error {
	name := c.def.Name
	x.mu.Lock()
	defer x.mu.Unlock()
	if holder, taken := x.byName[name]; taken {
		return nameTaken(name, holder)
	}
	x.byName[name] = c
	x.byID[c.id] = c
	return nil
}

// holder is the container of that very name, or nil.
func (x *index) holder(name string) *container {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.byName[name]
}

func nameTaken(name string, holder *container) error {
	_, st := holder.look()
	f := &fault.Error{
		Code: "name-in-use",
		What: fmt.Sprintf("the container name %q is already in use by container %s, which is %s", name, holder.id[:min(12, len(holder.id))], st.Phase),
		Try:  "kist rm " + name + ", or another --name",
		Words: fmt.Sprintf("Conflict. The container name %q is already in use by container %q. "+
			"You have to remove (or rename) that container to be able to reuse that name.", "/"+name, holder.id),
		Class: errdefs.ErrConflict,
	}
	if st.Phase.alive() {
		f.Try = "another --name, or kist rm -f " + name
	}
	return f
}

// rename moves the container to another name.
func (x *index) rename(c *container, from, to string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if holder, taken := x.byName[to]; taken {
		return nameTaken(to, holder)
	}
	delete(x.byName, from)
	x.byName[to] = c
	return nil
}

// remove forgets the container.
func (x *index) remove(c *container, name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.byID, c.id)
	if x.byName[name] == c {
		delete(x.byName, name)
	}
}

// named says whether the name is taken.
func (x *index) named(name string) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	_, taken := x.byName[name]
	return taken
}

// get returns the container with that very id, or nil.
func (x *index) get(id string) *container {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.byID[id]
}

// all returns the containers in no order.
func (x *index) all() []*container {
	x.mu.RLock()
	defer x.mu.RUnlock()
	list := make([]*container, 0, len(x.byID))
	for _, c := range x.byID {
		list = append(list, c)
	}
	return list
}

// find resolves what a user wrote: an id, a name, or a unique prefix of an id, in this order, as docker does.
func (x *index) find(ref string) (*container, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if c := x.byID[ref]; c != nil {
		return c, nil
	}
	if c := x.byName[strings.TrimPrefix(ref, "/")]; c != nil {
		return c, nil
	}
	var found *container
	if ref != "" {
		for id, c := range x.byID {
			if !strings.HasPrefix(id, ref) {
				continue
			}
			if found != nil {
				return nil, fmt.Errorf("multiple IDs found with provided prefix: %s: %w", ref, errdefs.ErrInvalidArgument)
			}
			found = c
		}
	}
	if found == nil {
		return nil, x.unknown(ref)
	}
	return found, nil
}

// missing is the error for a container that has just been removed.
func (x *index) missing(ref string) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.unknown(ref)
}

// unknown, with the lock held, is docker's error, with the nearest name where there is one.
func (x *index) unknown(ref string) error {
	f := &fault.Error{Code: "no-such-container", What: "No such container: " + ref, Class: errdefs.ErrNotFound}
	names := make([]string, 0, len(x.byName))
	for name := range x.byName {
		names = append(names, name)
	}
	slices.Sort(names)
	if near := typo.Nearest(ref, names); near != "" {
		f.Try = "did you mean " + near + "?"
	}
	return f
}
