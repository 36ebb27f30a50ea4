package compose

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/format"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/mattn/go-shellwords"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/compose/convert"
	"github.com/kistdev/kist/internal/compose/model"
)

type runFlags struct {
	up                                      upFlags
	detach, remove, noTTY, interactive      bool
	servicePorts, useAliases                bool
	env, envFiles, labels, volumes, publish []string
	capAdd, capDrop                         []string
	entrypoint, name, user, workdir         string
	quiet, quietBuild                       bool
	entrypointSet                           bool
}

func (s *stack) runCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{Use: "run [OPTIONS] SERVICE [COMMAND] [ARGS...]", Short: "Run a command in a new container of a service", Args: cobra.MinimumNArgs(1)}
	fs := c.Flags()
	fs.SetInterspersed(false)
	fs.BoolVar(&f.up.images.build, "build", false, "Build the image before")
	fs.StringArrayVar(&f.capAdd, "cap-add", nil, "Add a capability")
	fs.StringArrayVar(&f.capDrop, "cap-drop", nil, "Take a capability away")
	fs.BoolVarP(&f.detach, "detach", "d", false, "Do not wait for it, and print its name")
	fs.StringVar(&f.entrypoint, "entrypoint", "", "Program in the place of the image's")
	fs.StringArrayVarP(&f.env, "env", "e", nil, "Set a variable: NAME=value, or NAME to pass on this shell's")
	fs.StringArrayVar(&f.envFiles, "env-from-file", nil, "Set the variables listed in a file")
	fs.BoolVarP(&f.interactive, "interactive", "i", true, "Pass standard input on")
	fs.StringArrayVarP(&f.labels, "label", "l", nil, "Set a label: name=value")
	fs.StringVar(&f.name, "name", "", "Name of the container")
	fs.BoolVarP(&f.noTTY, "no-TTY", "T", false, "Give it no terminal")
	fs.BoolVarP(new(bool), "tty", "t", true, "Accepted for docker's sake")
	fs.Lookup("tty").Hidden = true
	fs.BoolVar(&f.up.noDeps, "no-deps", false, "Do not start what the service depends on")
	fs.StringArrayVarP(&f.publish, "publish", "p", nil, "Publish a port")
	fs.StringVar(&f.up.images.pull, "pull", "policy", "When to pull images: always, missing, never")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "Do not show what is prepared")
	fs.BoolVar(&f.quietBuild, "quiet-build", false, "Do not show the build")
	fs.BoolVar(&f.up.images.quietPull, "quiet-pull", false, "Do not show how far pulls are")
	fs.BoolVar(&f.up.removeOrphans, "remove-orphans", false, "Remove containers of services that the file no longer has")
	fs.BoolVar(&f.remove, "rm", false, "Remove the container when it has ended")
	fs.BoolVarP(&f.servicePorts, "service-ports", "P", false, "Publish the service's ports")
	fs.BoolVar(&f.useAliases, "use-aliases", false, "Give it the names that others reach the service by")
	fs.StringVarP(&f.user, "user", "u", "", "User and group: name|uid[:group|gid]")
	fs.StringArrayVarP(&f.volumes, "volume", "v", nil, "Mount a file, a directory or a volume")
	fs.StringVarP(&f.workdir, "workdir", "w", "", "Directory to run in")
	c.RunE = func(c *cobra.Command, args []string) error {
		f.entrypointSet = c.Flags().Changed("entrypoint")
		return s.run(&f, args[0], args[1:])
	}
	return c
}

// run makes a container for one command, after what the service depends on is ready.
func (s *stack) run(f *runFlags, service string, command []string) error {
	if err := s.open(service); err != nil {
		return err
	}
	if f.quiet {
		s.progress = "quiet"
		var err error
		if s.board, err = s.newBoard(); err != nil {
			return err
		}
	}
	g, w, err := s.prepareRun(f, service)
	if err != nil {
		s.board.Close()
		return err
	}
	in, out := s.tool.Terminals()
	svc := w.service
	if err := f.apply(s.project, &svc, command, in && out); err != nil {
		return err
	}
	slug := make([]byte, 32)
	if _, err := rand.Read(slug); err != nil {
		return err
	}
	name := f.name
	if name == "" {
		name = fmt.Sprintf("%s-%s-run-%s", s.name, service, hex.EncodeToString(slug[:6]))
	}
	svc.ContainerName = name
	svc.CustomLabels = maps.Clone(svc.CustomLabels)
	svc.CustomLabels[model.LabelSlug], svc.CustomLabels[model.LabelOneOff] = hex.EncodeToString(slug), "True"
	hash, err := model.ServiceHash(svc)
	if err != nil {
		return err
	}
	made := &convert.Input{
		Project: g.p, Service: svc, Alone: !f.useAliases, AttachStdin: svc.StdinOpen && !f.detach, AutoRemove: f.remove, Links: g.links(&svc),
		ReadFile: os.ReadFile, Labels: types.Labels{model.LabelHash: hash},
	}
	id, req, err := s.makeWith(made, name)
	s.board.Close()
	if err != nil {
		return err
	}
	if !f.detach {
		return s.tool.RunMade(id, req)
	}
	if err := s.startContainer(id); err != nil {
		return err
	}
	if err := s.runHooks(svc.PostStart, "post_start", name, id); err != nil {
		return err
	}
	fmt.Println(name)
	return nil
}

// prepareRun starts what the service depends on, and has ready what its container needs.
func (s *stack) prepareRun(f *runFlags, service string) (*goal, *want, error) {
	g, err := s.newGoal(&f.up, []string{service})
	if err != nil {
		return nil, nil, err
	}
	g.waitsForNobody = false
	if err := s.prepare(g, &f.up); err != nil {
		return nil, nil, err
	}
	// The service itself is neither made nor started; one container of it there may be for others to refer to.
	own := g.p.Services[service]
	rest := *g.p
	rest.Services = maps.Clone(g.p.Services)
	delete(rest.Services, service)
	whole := g.p
	if g.p = &rest; !f.up.noDeps {
		if err := s.create(g); err != nil {
			return nil, nil, err
		}
		if err := s.start(context.Background(), g); err != nil {
			return nil, nil, err
		}
	}
	g.p = whole
	w := &want{service: own}
	if !f.up.noDeps {
		if _, err := s.dependencies(context.Background(), g, w); err != nil {
			return nil, nil, err
		}
	}
	w.service = convert.Resolve(own, g.firstLocked)
	w.service.CustomLabels = maps.Clone(w.service.CustomLabels)
	w.service.CustomLabels[model.LabelImage] = g.images[service].id
	return g, w, nil
}

// apply puts the flags over the service.
func (f *runFlags) apply(p *types.Project, svc *types.ServiceConfig, command []string, terminals bool) error {
	one := 1
	svc.Scale, svc.Restart, svc.PreStart = &one, "", nil
	if svc.Deploy != nil {
		d := *svc.Deploy
		d.RestartPolicy, d.Replicas = nil, nil
		svc.Deploy = &d
	}
	svc.Tty = !f.noTTY && !f.detach && terminals
	svc.StdinOpen = f.interactive && !f.detach
	if len(command) > 0 {
		svc.Command = command
	}
	if f.entrypointSet {
		words, err := shellwords.Parse(f.entrypoint)
		if err != nil {
			return fmt.Errorf("--entrypoint: %w", err)
		}
		svc.Entrypoint = words
		if len(command) == 0 {
			svc.Command = []string{}
		}
	}
	if f.user != "" {
		svc.User = f.user
	}
	if f.workdir != "" {
		svc.WorkingDir = f.workdir
	}
	svc.CapAdd = slices.Concat(without(svc.CapAdd, f.capDrop), f.capAdd)
	svc.CapDrop = slices.Concat(without(svc.CapDrop, f.capAdd), f.capDrop)
	return errors.Join(f.applyEnvironment(p, svc), f.applyVolumes(p, svc), f.applyPorts(svc))
}

func without(list, gone []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(gone, s) })
}

func (f *runFlags) applyEnvironment(p *types.Project, svc *types.ServiceConfig) error {
	env := maps.Clone(svc.Environment)
	if env == nil {
		env = types.MappingWithEquals{}
	}
	set := func(line string) {
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			if value, ok = os.LookupEnv(name); !ok {
				if value, ok = p.Environment[name]; !ok {
					return
				}
			}
		}
		env[name] = &value
	}
	for _, file := range f.envFiles {
		raw, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("--env-from-file: %w", err)
		}
		for line := range strings.Lines(string(raw)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				set(line)
			}
		}
	}
	for _, line := range f.env {
		set(line)
	}
	svc.Environment = env
	svc.Labels = maps.Clone(svc.Labels)
	for _, l := range f.labels {
		name, value, _ := strings.Cut(l, "=")
		svc.Labels = svc.Labels.Add(name, value)
	}
	return nil
}

func (f *runFlags) applyVolumes(p *types.Project, svc *types.ServiceConfig) error {
	svc.Volumes = slices.Clone(svc.Volumes)
	for _, v := range f.volumes {
		c, err := format.ParseVolume(v)
		if err != nil {
			return fmt.Errorf("--volume %s: %w", v, err)
		}
		if c.Type == types.VolumeTypeBind {
			if c.Source, err = filepath.Abs(c.Source); err != nil {
				return err
			}
		} else if c.Source != "" {
			if _, ok := p.Volumes[c.Source]; !ok {
				c.Volume = &types.ServiceVolumeVolume{NoCopy: c.Volume != nil && c.Volume.NoCopy}
			}
		}
		svc.Volumes = append(slices.DeleteFunc(svc.Volumes, func(o types.ServiceVolumeConfig) bool { return o.Target == c.Target }), c)
	}
	return nil
}

func (f *runFlags) applyPorts(svc *types.ServiceConfig) error {
	if !f.servicePorts {
		svc.Ports = nil
	}
	for _, p := range f.publish {
		list, err := types.ParsePortConfig(p)
		if err != nil {
			return fmt.Errorf("--publish %s: %w", p, err)
		}
		svc.Ports = append(svc.Ports, list...)
	}
	return nil
}
