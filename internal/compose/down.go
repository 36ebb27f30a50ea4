package compose

import (
	"fmt"
	"net/url"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/compose/model"
	"github.com/kistdev/kist/internal/compose/screen"
)

type downFlags struct {
	volumes, orphans bool
	images           string
}

func (s *stack) downCommand() *cobra.Command {
	var f downFlags
	c := &cobra.Command{Use: "down [OPTIONS] [SERVICE...]", Short: "Stop and remove containers and networks"}
	patience := patienceFlag(c)
	c.Flags().BoolVarP(&f.volumes, "volumes", "v", false, "Remove volumes, too, with what is in them")
	c.Flags().BoolVar(&f.orphans, "remove-orphans", false, "Remove containers of services that the file no longer has")
	c.Flags().StringVar(&f.images, "rmi", "", "Remove images: all, or local for those without a name of their own")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if f.images != "" && f.images != "all" && f.images != "local" {
			return fmt.Errorf("invalid --rmi %q: must be all or local", f.images)
		}
		if err := s.openNamed(args...); err != nil {
			return err
		}
		defer s.board.Close()
		return s.down(&f, patience(), args)
	}
	return c
}

// down removes what up has made: containers, those that depend on others first, then networks and what else is asked for.
func (s *stack) down(f *downFlags, patience *int, services []string) error {
	all, err := s.containers()
	if err != nil {
		return err
	}
	if err := s.known(all, services); err != nil {
		return err
	}
	own := all.of(services...).which(func(c *found) bool { return s.goesDown(c, f) })
	var nameless []string
	if f.volumes {
		if nameless, err = s.nameless(own); err != nil {
			return err
		}
	}
	err = s.backward(own, func(c *found) error { return s.endContainer(c, s.hooks(c), patience, true, f.volumes) })
	if err != nil {
		return err
	}
	if err := each(s, nameless, s.removeNameless); err != nil {
		return err
	}
	if len(services) > 0 && len(own) < len(all) {
		return nil // Others go on, and so do their networks.
	}
	left := len(all) - len(own)
	if err := s.removeNetworks(); err != nil {
		return err
	}
	if f.volumes {
		if err := s.removeVolumes(); err != nil {
			return err
		}
	}
	if err := s.removeImages(f.images, own); err != nil {
		return err
	}
	if left > 0 {
		s.board.Note("The project has containers of services that the file no longer has; --remove-orphans removes them, too.")
	}
	return nil
}

// goesDown tells whether a container is removed: those of `run` that are done, and those of services that the file has.
func (s *stack) goesDown(c *found, f *downFlags) bool {
	if f.orphans || s.project == nil {
		return true
	}
	if c.oneOff() {
		return !c.running() || c.Labels[model.LabelHook] != ""
	}
	return slices.Contains(append(s.project.ServiceNames(), s.project.DisabledServiceNames()...), c.service())
}

// removeImages removes the images of services: all, or those that a build has named after the project.
func (s *stack) removeImages(which string, own fleet) error {
	if which == "" {
		return nil
	}
	var refs []string
	add := func(ref string) {
		if !slices.Contains(refs, ref) {
			refs = append(refs, ref)
		}
	}
	if s.project != nil {
		for _, svc := range s.project.AllServices() {
			if which == "all" || svc.Image == "" && svc.Build != nil {
				add(model.ImageName(s.name, &svc))
			}
		}
	} else {
		for _, c := range own {
			if which == "all" || c.Image == s.name+"-"+c.service() {
				add(c.Image)
			}
		}
	}
	return each(s, refs, func(ref string) error {
		s.set("Image", ref, "removing", screen.Working)
		err := s.cl.Call(client.Delete("/images/"+url.PathEscape(ref), nil))
		switch {
		case err == nil:
			s.set("Image", ref, "removed", screen.Done)
		case errdefs.IsNotFound(err):
			s.set("Image", ref, "not there", screen.Unchanged)
		case errdefs.IsConflict(err):
			s.set("Image", ref, "still in use", screen.Unchanged)
		default:
			s.failed("Image", ref, "not removed")
			return fmt.Errorf("remove image %s: %w", ref, err)
		}
		return nil
	})
}

// nameless are the volumes of containers that were given no name, those included that a container has taken over from the one
// whose place it took: to the daemon these are volumes like any other.
func (s *stack) nameless(f fleet) ([]string, error) {
	q, err := filters(map[string][]string{"label": {"com.docker.volume.anonymous"}})
	if err != nil {
		return nil, err
	}
	r, err := client.CallJSON[volume.ListResponse](s.cl, client.Get("/volumes", q))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, v := range r.Volumes {
		for _, c := range f {
			if slices.ContainsFunc(c.Mounts, func(m container.MountPoint) bool { return m.Name == v.Name }) && !slices.Contains(out, v.Name) {
				out = append(out, v.Name)
			}
		}
	}
	return out, nil
}

// removeNameless removes a volume that may have gone with its container, or that another container has.
func (s *stack) removeNameless(name string) error {
	err := s.cl.Call(client.Delete("/volumes/"+url.PathEscape(name), nil))
	if errdefs.IsNotFound(err) || errdefs.IsConflict(err) {
		return nil
	}
	return err
}
