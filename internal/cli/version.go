package cli

import (
	"errors"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/moby/moby/api/types/system"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

// clientVersion describes this program.
type clientVersion struct {
	Platform   struct{ Name string }
	Version    string
	APIVersion string `json:"ApiVersion"`
	// DefaultAPIVersion is the newest that it speaks.
	DefaultAPIVersion string `json:"DefaultAPIVersion"`
	GitCommit         string
	GoVersion         string
	Os                string
	Arch              string
	BuildTime         string
	Context           string
}

// versions is what version prints.
type versions struct {
	Client clientVersion
	Server *system.VersionResponse
}

const versionTemplate = `Client:
 Version:           {{.Client.Version}}
 API version:       {{.Client.APIVersion}}
 Go version:        {{.Client.GoVersion}}
{{- if .Client.GitCommit}}
 Git commit:        {{.Client.GitCommit}}
{{- end}}
 OS/Arch:           {{.Client.Os}}/{{.Client.Arch}}
{{- if .Server}}

Server:{{if .Server.Platform.Name}} {{.Server.Platform.Name}}{{end}}
 Version:           {{.Server.Version}}
 API version:       {{.Server.APIVersion}} (minimum {{.Server.MinAPIVersion}})
 Go version:        {{.Server.GoVersion}}
{{- if .Server.GitCommit}}
 Git commit:        {{.Server.GitCommit}}
{{- end}}
 OS/Arch:           {{.Server.Os}}/{{.Server.Arch}}
 Kernel:            {{.Server.KernelVersion}}
{{- end}}`

func (a *app) versionCommand() *cobra.Command {
	var format string
	c := &cobra.Command{Use: "version [OPTIONS]", Args: noArgs}
	c.Flags().StringVarP(&format, "format", "f", "", "How to print: json, or a Go template")
	c.RunE = func(*cobra.Command, []string) error {
		v := versions{Client: a.thisVersion()}
		cl, err := a.client()
		if err == nil {
			v.Server, err = client.CallJSON[system.VersionResponse](cl, client.Get("/version", nil))
			v.Client.APIVersion = cl.APIVersion()
		}
		if format == "" {
			format = versionTemplate
		}
		perr := printRows(a.out, &listing{format: format}, []versions{v})
		return errors.Join(err, perr)
	}
	return c
}

func (a *app) thisVersion() clientVersion {
	v := clientVersion{
		Version: Version, APIVersion: client.NewestAPI, DefaultAPIVersion: client.NewestAPI, GoVersion: runtime.Version(),
		Os: runtime.GOOS, Arch: runtime.GOARCH, Context: a.contextName(),
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v.GitCommit = truncate(s.Value, 12)
			case "vcs.time":
				v.BuildTime = s.Value
			}
		}
	}
	v.Platform.Name = "kist"
	v.GoVersion = strings.TrimSpace(v.GoVersion)
	return v
}
