package model

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/compose-spec/compose-go/v2/validation"
	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
)

// Options say which project is meant.
type Options struct {
	// Files are the Compose files; none for those that are found, "-" for standard input.
	Files []string
	// Name is the project's.
	Name string
	// Dir is the project's directory; that of the first file when empty.
	Dir string
	// Profiles are those that are active; none for those of COMPOSE_PROFILES. "*" is all of them.
	Profiles []string
	// EnvFiles are read in place of .env.
	EnvFiles []string
	// Plain leaves variables as they stand, and AsWritten paths.
	Plain, AsWritten bool
	// Unresolved leaves env_file alone: what is asked for does not need the environment of the containers.
	Unresolved bool
}

// Load reads the project. Services that are named become active whatever their profiles.
func (o *Options) Load(ctx context.Context, services ...string) (*types.Project, error) {
	po, err := o.options()
	if err != nil {
		return nil, err
	}
	if len(po.ConfigPaths) == 0 {
		return nil, noFile(po)
	}
	p, err := o.loadQuickly(ctx)
	if err != nil {
		p, err = po.LoadProject(ctx)
	}
	if err != nil {
		return nil, explain(err, po.ConfigPaths)
	}
	if p.Name == "" {
		return nil, &fault.Error{
			Code: "compose-no-name", What: "the project has no name", Cause: "its directory's name has no letter or digit",
			Try: "-p NAME, or name: in the Compose file", Class: errdefs.ErrInvalidArgument,
		}
	}
	if len(services) > 0 {
		known := Names(append(p.ServiceNames(), p.DisabledServiceNames()...))
		for _, s := range services {
			if err := known.Check("service", s); err != nil {
				return nil, err
			}
		}
		if p, err = p.WithServicesEnabled(services...); err != nil {
			return nil, explain(err, po.ConfigPaths)
		}
	}
	for name, s := range p.Services {
		s.CustomLabels = ServiceLabels(p, name, o.EnvFiles)
		p.Services[name] = s
	}
	return p, nil
}

// errSlow is a project that is to be read in the usual way.
var errSlow = errors.New("the quick way is not sure of the file")

// loadQuickly reads the project with checks of its own in the place of the library's. When it fails, for whatever reason, the
// usual way says what is wrong, or that nothing is.
func (o *Options) loadQuickly(ctx context.Context) (*types.Project, error) {
	unchecked := cli.WithLoadOptions(loader.WithSkipValidation)
	po, err := o.options(unchecked)
	if err != nil {
		return nil, err
	}
	if o.Plain || slices.Contains(po.ConfigPaths, "-") {
		return nil, errSlow // Variables in the place of numbers; a file that can be read once.
	}
	document, err := po.LoadModel(ctx)
	if err != nil {
		return nil, err
	}
	if _, old := document["version"]; old {
		return nil, errSlow
	}
	raw, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	var plain any
	if err := json.Unmarshal(raw, &plain); err != nil {
		return nil, err
	}
	root, err := readSchema()
	if err != nil {
		return nil, err
	}
	if !accepts(root, plain) {
		return nil, errSlow
	}
	if err := validation.Validate(document); err != nil {
		return nil, err
	}
	if po, err = o.options(unchecked); err != nil {
		return nil, err
	}
	return po.LoadProject(ctx)
}

// options are compose-go's.
func (o *Options) options(more ...cli.ProjectOptionsFn) (*cli.ProjectOptions, error) {
	name := o.Name
	fns := []cli.ProjectOptionsFn{cli.WithWorkingDirectory(o.Dir), cli.WithOsEnv}
	if _, ok := os.LookupEnv("PWD"); !ok {
		if dir, err := os.Getwd(); err == nil {
			fns = append(fns, cli.WithEnv([]string{"PWD=" + dir}))
		}
	}
	fns = append(
		fns, cli.WithEnvFiles(o.EnvFiles...), cli.WithDotEnv, cli.WithConfigFileEnv, cli.WithDefaultConfigPath,
		// The file that was found may lie in another directory, with an .env of its own.
		cli.WithEnvFiles(o.EnvFiles...), cli.WithDotEnv,
		cli.WithDefaultProfiles(o.Profiles...), cli.WithName(name), cli.WithDiscardEnvFile,
		cli.WithInterpolation(!o.Plain), cli.WithResolvedPaths(!o.AsWritten),
	)
	if o.Unresolved {
		fns = append(fns, cli.WithoutEnvironmentResolution)
	}
	po, err := cli.NewProjectOptions(o.Files, append(fns, more...)...)
	if err != nil {
		return nil, explain(err, o.Files)
	}
	return po, nil
}

// GivenName is the project's name when no file needs to be read for it; else empty.
func (o *Options) GivenName() string {
	if o.Name != "" {
		return o.Name
	}
	return os.Getenv("COMPOSE_PROJECT_NAME")
}

// noFile says where a Compose file was looked for, and which file may be meant.
func noFile(po *cli.ProjectOptions) error {
	dir, err := po.GetWorkingDir()
	if err != nil {
		return err
	}
	f := &fault.Error{
		Code: "compose-no-file", What: "there is no Compose file in " + dir + " or above it",
		Cause: "looked for " + strings.Join(cli.DefaultFileNames, ", "), Try: "-f FILE, or run it in the project's directory", Class: errdefs.ErrNotFound,
	}
	entries, _ := os.ReadDir(dir) // A directory that cannot be read has no hint to give.
	for _, e := range entries {
		name := strings.ToLower(e.Name())
		if !e.IsDir() && strings.Contains(name, "compose") && (strings.HasSuffix(name, ".yml") || strings.HasSuffix(name, ".yaml")) {
			f.Try = "-f " + e.Name()
			break
		}
	}
	return f
}

// IsNoFile tells that there is no Compose file, and nothing was wrong with one.
func IsNoFile(err error) bool {
	var f *fault.Error
	return errors.As(err, &f) && f.Code == "compose-no-file"
}

// relative is a path as it is shorter to read: from the current directory if it lies there.
func relative(path string) string {
	dir, err := os.Getwd()
	if err != nil {
		return path
	}
	rel, err := filepath.Rel(dir, path)
	if err != nil || strings.HasPrefix(rel, "..") {
		return path
	}
	return rel
}

// unknown is a name that is not there.
func unknown(what, name, near string, all []string) error {
	f := &fault.Error{
		Code: "compose-no-" + what, What: fmt.Sprintf("there is no %s %q", what, name), Class: errdefs.ErrNotFound,
		Cause: "the project has " + strings.Join(all, ", "),
	}
	if len(all) == 0 {
		f.Cause = "the project has none"
	}
	if near != "" {
		f.Try = "did you mean " + near + "?"
	}
	return f
}
