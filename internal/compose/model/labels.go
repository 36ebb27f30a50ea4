package model

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// Labels by which Compose finds what belongs to a project.
const (
	LabelProject     = "com.docker.compose.project"
	LabelService     = "com.docker.compose.service"
	LabelHash        = "com.docker.compose.config-hash"
	LabelNumber      = "com.docker.compose.container-number"
	LabelVolume      = "com.docker.compose.volume"
	LabelNetwork     = "com.docker.compose.network"
	LabelDir         = "com.docker.compose.project.working_dir"
	LabelFiles       = "com.docker.compose.project.config_files"
	LabelEnvFile     = "com.docker.compose.project.environment_file"
	LabelOneOff      = "com.docker.compose.oneoff"
	LabelSlug        = "com.docker.compose.slug"
	LabelImage       = "com.docker.compose.image"
	LabelDependsOn   = "com.docker.compose.depends_on"
	LabelVersion     = "com.docker.compose.version"
	LabelReplaces    = "com.docker.compose.replace"
	LabelHook        = "com.docker.compose.hook"
	LabelHookIndex   = "com.docker.compose.hook-index"
	separator        = "-"
	conditionDefault = "running_or_healthy"
)

// Spoken is the version of Docker's Compose whose labels and hashes these are.
const Spoken = "5.7.0"

// ContainerName is what a service's container of a number is called.
func ContainerName(project string, s *types.ServiceConfig, number int) string {
	if s.ContainerName != "" {
		return s.ContainerName
	}
	return project + separator + s.Name + separator + strconv.Itoa(number)
}

// ImageName is the service's image: the one that is named, or the one that its build makes.
func ImageName(project string, s *types.ServiceConfig) string {
	if s.Image != "" {
		return s.Image
	}
	return project + separator + s.Name
}

// ServiceLabels are those that every container of a service has.
func ServiceLabels(p *types.Project, service string, envFiles []string) types.Labels {
	l := types.Labels{
		LabelProject: p.Name, LabelService: service, LabelVersion: Spoken, LabelDir: p.WorkingDir,
		LabelFiles: strings.Join(p.ComposeFiles, ","), LabelOneOff: "False",
	}
	if len(envFiles) > 0 {
		l[LabelEnvFile] = strings.Join(envFiles, ",")
	}
	return l
}

// WriteDependsOn is depends_on as a label.
func WriteDependsOn(d types.DependsOnConfig) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(d)) {
		list = append(list, name+":"+d[name].Condition+":"+strconv.FormatBool(d[name].Restart))
	}
	return strings.Join(list, ",")
}

// ReadDependsOn reads a label; old ones have names alone.
func ReadDependsOn(label string) types.DependsOnConfig {
	d := types.DependsOnConfig{}
	for entry := range strings.SplitSeq(label, ",") {
		parts := strings.Split(entry, ":")
		if parts[0] == "" {
			continue
		}
		dep := types.ServiceDependency{Condition: conditionDefault, Restart: true, Required: true}
		if len(parts) > 1 {
			dep.Condition = parts[1]
		}
		if len(parts) > 2 {
			dep.Restart = parts[2] == "true"
		}
		d[parts[0]] = dep
	}
	return d
}
