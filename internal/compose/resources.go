package compose

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"

	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/compose/convert"
	"github.com/kistdev/kist/internal/compose/model"
	"github.com/kistdev/kist/internal/compose/screen"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/typo"
)

// resources are the networks and volumes that there are, everybody's.
type resources struct {
	networks []network.Summary
	volumes  map[string]volume.Volume
}

// resources looks them up.
func (s *stack) resources(p *types.Project) (there resources, err error) {
	err = together(func() (err error) {
		there.networks, err = list[network.Summary](s.cl, "/networks", nil)
		return err
	}, func() error {
		if len(p.Volumes) == 0 {
			return nil
		}
		r, err := client.CallJSON[volume.ListResponse](s.cl, client.Get("/volumes", nil))
		if err != nil {
			return err
		}
		there.volumes = map[string]volume.Volume{}
		for _, v := range r.Volumes {
			there.volumes[v.Name] = v
		}
		return nil
	})
	return there, err
}

// ensureNetworks makes the networks that are missing, and returns the ids of all by key.
func (s *stack) ensureNetworks(p *types.Project, existing []network.Summary) (map[string]string, error) {
	keys := slices.Sorted(maps.Keys(p.Networks))
	ids := make([]string, len(keys))
	index := make(map[string]int, len(keys))
	for i, k := range keys {
		index[k] = i
	}
	err := each(s, keys, func(key string) (err error) {
		ids[index[key]], err = s.ensureNetwork(p, key, existing)
		return err
	})
	out := map[string]string{}
	for i, k := range keys {
		out[k] = ids[i]
	}
	return out, err
}

func (s *stack) ensureNetwork(p *types.Project, key string, existing []network.Summary) (string, error) {
	n := p.Networks[key]
	at := slices.IndexFunc(existing, func(e network.Summary) bool { return e.Name == n.Name || bool(n.External) && e.ID == n.Name })
	if bool(n.External) {
		if at < 0 {
			var names []string
			for _, e := range existing {
				names = append(names, e.Name)
			}
			return "", missingExternal("network", n.Name, names)
		}
		return existing[at].ID, nil
	}
	req, err := convert.Network(p, key)
	if err != nil {
		return "", err
	}
	if at >= 0 {
		e := existing[at]
		owner := e.Labels[model.LabelProject]
		hash := e.Labels[model.LabelHash]
		if owner != p.Name {
			s.board.Note("warning: network " + n.Name + " was not made for this project and is used as it is; external: true says that this is meant")
			return e.ID, nil
		}
		if hash == "" || hash == req.Labels[model.LabelHash] {
			return e.ID, nil
		}
		if err := s.dropNetwork(e.ID, e.Name); err != nil {
			return "", fmt.Errorf("make network %s anew, as its options changed: %w", n.Name, err)
		}
	}
	s.set("Network", n.Name, "creating", screen.Working)
	r, err := client.Ask[network.CreateResponse](s.cl, "/networks/create", nil, req)
	if errdefs.IsConflict(err) {
		// Somebody else made it meanwhile.
		found, ierr := client.CallJSON[network.Inspect](s.cl, client.Get("/networks/"+url.PathEscape(n.Name), nil))
		if ierr == nil {
			return found.ID, nil
		}
	}
	if err != nil {
		s.failed("Network", n.Name, "not created")
		return "", fmt.Errorf("create network %s: %w", n.Name, err)
	}
	s.set("Network", n.Name, "created", screen.Done)
	return r.ID, nil
}

// dropNetwork removes a network whose options changed, out of its containers: those are made anew, as they lack it.
func (s *stack) dropNetwork(id, name string) error {
	s.set("Network", name, "recreating", screen.Working)
	in, err := client.CallJSON[network.Inspect](s.cl, client.Get("/networks/"+url.PathEscape(id), nil))
	if err != nil {
		return err
	}
	for c := range in.Containers {
		if err := client.Tell(s.cl, "/networks/"+url.PathEscape(id)+"/disconnect", nil, network.DisconnectRequest{Container: c, Force: true}); err != nil {
			return err
		}
	}
	return s.cl.Call(client.Delete("/networks/"+url.PathEscape(id), nil))
}

// ensureVolumes makes the volumes that are missing.
func (s *stack) ensureVolumes(p *types.Project, existing map[string]volume.Volume) error {
	return each(s, slices.Sorted(maps.Keys(p.Volumes)), func(key string) error { return s.ensureVolume(p, key, existing) })
}

func (s *stack) ensureVolume(p *types.Project, key string, existing map[string]volume.Volume) error {
	v := p.Volumes[key]
	e, there := existing[v.Name]
	if bool(v.External) {
		if !there {
			return missingExternal("volume", v.Name, slices.Sorted(maps.Keys(existing)))
		}
		return nil
	}
	req, err := convert.Volume(p, key)
	if err != nil {
		return err
	}
	if there {
		hash := e.Labels[model.LabelHash]
		switch owner := e.Labels[model.LabelProject]; {
		case owner != p.Name:
			s.board.Note("warning: volume " + v.Name + " was not made for this project and is used as it is; external: true says that this is meant")
		case hash != "" && hash != req.Labels[model.LabelHash]:
			s.board.Note("warning: volume " + v.Name + " has other options than the file says, and stays as it is; " +
				"kist compose down -v removes it with what is in it")
		}
		return nil
	}
	s.set("Volume", v.Name, "creating", screen.Working)
	if err := client.Tell(s.cl, "/volumes/create", nil, req); err != nil {
		s.failed("Volume", v.Name, "not created")
		return fmt.Errorf("create volume %s: %w", v.Name, err)
	}
	s.set("Volume", v.Name, "created", screen.Done)
	return nil
}

// missingExternal is a network or volume that the file says others have made.
func missingExternal(kind, name string, all []string) error {
	f := &fault.Error{
		Code: "compose-no-external-" + kind, What: "there is no " + kind + " " + name, Cause: "the Compose file says external: true, so it is not made",
		Try: "kist " + kind + " create " + name, Class: errdefs.ErrNotFound,
	}
	if near := typo.Nearest(name, all); near != "" {
		f.Try = "did you mean " + near + "? Or: " + f.Try
	}
	return f
}

// removeNetworks removes the project's networks that nobody is on.
func (s *stack) removeNetworks() error {
	nets, err := s.networks()
	if err != nil {
		return err
	}
	return each(s, nets, func(n network.Summary) error {
		s.set("Network", n.Name, "removing", screen.Working)
		err := s.cl.Call(client.Delete("/networks/"+url.PathEscape(n.ID), nil))
		switch {
		case err == nil || errdefs.IsNotFound(err):
			s.set("Network", n.Name, "removed", screen.Done)
			return nil
		case errdefs.IsConflict(err) || errdefs.IsPermissionDenied(err):
			s.set("Network", n.Name, "still in use", screen.Unchanged)
			return nil
		}
		s.failed("Network", n.Name, "not removed")
		return fmt.Errorf("remove network %s: %w", n.Name, err)
	})
}

// removeVolumes removes the project's volumes: those that the file has or, where there is none, all.
func (s *stack) removeVolumes() error {
	vols, err := s.volumes()
	if err != nil {
		return err
	}
	if s.project != nil {
		declared := func(v volume.Volume) bool {
			for _, d := range s.project.Volumes {
				if d.Name == v.Name && !bool(d.External) {
					return true
				}
			}
			return false
		}
		var others []string
		vols = slices.DeleteFunc(vols, func(v volume.Volume) bool {
			if declared(v) {
				return false
			}
			others = append(others, v.Name)
			return true
		})
		if len(others) > 0 {
			s.board.Note("The project has made " + strings.Join(others, ", ") + " too, which the file no longer has: kist volume rm " + strings.Join(others, " "))
		}
	}
	return each(s, vols, func(v volume.Volume) error {
		s.set("Volume", v.Name, "removing", screen.Working)
		err := s.cl.Call(client.Delete("/volumes/"+url.PathEscape(v.Name), nil))
		switch {
		case err == nil || errdefs.IsNotFound(err):
			s.set("Volume", v.Name, "removed", screen.Done)
			return nil
		case errdefs.IsConflict(err):
			s.set("Volume", v.Name, "still in use", screen.Unchanged)
			return nil
		}
		s.failed("Volume", v.Name, "not removed")
		return errors.Join(fmt.Errorf("remove volume %s: %w", v.Name, err))
	})
}
