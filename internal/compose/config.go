package compose

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/compose/convert"
	"github.com/kistdev/kist/internal/compose/model"
)

type configFlags struct {
	format, hash, output                                     string
	services, volumes, networks, images, profiles, variables bool
	environment, quiet, noInterpolate, noNormalize           bool
	noPathResolution, noEnvResolution, noConsistency         bool
	resolveDigests                                           bool
}

func (s *stack) configCommand() *cobra.Command {
	var f configFlags
	c := &cobra.Command{Use: "config [OPTIONS] [SERVICE...]", Aliases: []string{"convert"}, Short: "Show the project as it is read"}
	fs := c.Flags()
	fs.BoolVar(&f.environment, "environment", false, "Print the variables that the file is filled in with")
	fs.StringVar(&f.format, "format", "yaml", "How to print: yaml or json")
	fs.StringVar(&f.hash, "hash", "", "Print services' hashes: * for all, or names with commas")
	fs.BoolVar(&f.images, "images", false, "Print images only")
	fs.BoolVar(&f.networks, "networks", false, "Print networks only")
	fs.BoolVar(&f.noConsistency, "no-consistency", false, "Accepted for docker's sake")
	fs.BoolVar(&f.noEnvResolution, "no-env-resolution", false, "Leave env_file as it is")
	fs.BoolVar(&f.noInterpolate, "no-interpolate", false, "Leave variables as they are")
	fs.BoolVar(&f.noNormalize, "no-normalize", false, "Accepted for docker's sake")
	fs.BoolVar(&f.noPathResolution, "no-path-resolution", false, "Leave paths as they are")
	fs.StringVarP(&f.output, "output", "o", "", "Write to a file")
	fs.BoolVar(&f.profiles, "profiles", false, "Print profiles only")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "Only check")
	fs.BoolVar(&f.resolveDigests, "resolve-image-digests", false, "Not served")
	fs.BoolVar(&f.services, "services", false, "Print services only")
	fs.BoolVar(&f.variables, "variables", false, "Not served")
	fs.BoolVar(&f.volumes, "volumes", false, "Print volumes only")
	for _, hidden := range []string{"no-consistency", "no-normalize", "resolve-image-digests", "variables"} {
		fs.Lookup(hidden).Hidden = true
	}
	c.RunE = func(_ *cobra.Command, args []string) error { return s.config(&f, args) }
	return c
}

func (s *stack) config(f *configFlags, services []string) error {
	if f.resolveDigests || f.variables {
		return errors.New("--resolve-image-digests and --variables are not served")
	}
	s.options.Plain, s.options.AsWritten, s.options.Unresolved = f.noInterpolate, f.noPathResolution, f.noEnvResolution
	if err := s.read(services...); err != nil {
		return err
	}
	p := s.project
	var err error
	if len(services) > 0 {
		if p, err = p.WithSelectedServices(services, types.IncludeDependencies); err != nil {
			return err
		}
		p = p.WithoutUnnecessaryResources()
	}
	if text, ok, err := f.lists(p); err != nil || ok {
		return errors.Join(err, f.write(text))
	}
	if f.quiet {
		return nil
	}
	var raw []byte
	switch f.format {
	case "yaml", "":
		raw, err = p.MarshalYAML()
	case "json":
		raw, err = p.MarshalJSON()
	default:
		return fmt.Errorf("invalid --format %q: must be yaml or json", f.format)
	}
	if err != nil {
		return fmt.Errorf("write the project: %w", err)
	}
	return f.write(strings.TrimRight(string(raw), "\n"))
}

// lists are what is printed instead of the whole project; ok says that something was asked for.
func (f *configFlags) lists(p *types.Project) (text string, ok bool, err error) {
	var lines []string
	switch {
	case f.hash != "":
		lines, err = hashes(p, f.hash)
	case f.services:
		lines = sorted(p.ServiceNames())
	case f.volumes:
		lines = sorted(p.VolumeNames())
	case f.networks:
		lines = sorted(p.NetworkNames())
	case f.images:
		for _, name := range sorted(p.ServiceNames()) {
			svc := p.Services[name]
			lines = append(lines, model.ImageName(p.Name, &svc))
		}
	case f.profiles:
		for _, svc := range p.AllServices() {
			for _, one := range svc.Profiles {
				if !slices.Contains(lines, one) {
					lines = append(lines, one)
				}
			}
		}
		slices.Sort(lines)
	case f.environment:
		for _, name := range slices.Sorted(maps.Keys(p.Environment)) {
			lines = append(lines, name+"="+p.Environment[name])
		}
	default:
		return "", false, nil
	}
	return strings.Join(lines, "\n"), true, err
}

// hashes are those that containers are compared by.
func hashes(p *types.Project, which string) ([]string, error) {
	names := sorted(p.ServiceNames())
	if which != "*" {
		names = commaList(which)
	}
	var lines []string
	for _, name := range names {
		if err := model.Names(p.ServiceNames()).Check("service", name); err != nil {
			return nil, err
		}
		h, err := model.ServiceHash(convert.Resolve(p.Services[name], func(string) (string, bool) { return "", false }))
		if err != nil {
			return nil, err
		}
		lines = append(lines, name+" "+h)
	}
	return lines, nil
}

func (f *configFlags) write(text string) error {
	if text == "" {
		return nil
	}
	if f.output != "" {
		return os.WriteFile(f.output, []byte(text+"\n"), 0o666) //nolint:gosec // as the umask has it
	}
	_, err := fmt.Println(text)
	return err
}
