package api

import (
	"encoding/json"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	imagetypes "github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// listedImage is an image in a list as versions before 1.44 have it.
type listedImage struct {
	imagetypes.Summary
	VirtualSize int64
}

// imagesFor shapes a list of images as the version has it.
func imagesFor(v version, list []imagetypes.Summary) any {
	if v >= 51 {
		return orEmpty(list)
	}
	old := make([]listedImage, len(list))
	for i, sum := range list {
		sum.Containers = -1
		if v < 43 && len(sum.RepoTags) == 0 && len(sum.RepoDigests) == 0 {
			sum.RepoTags, sum.RepoDigests = []string{"<none>:<none>"}, []string{"<none>@<none>"}
		}
		old[i] = listedImage{sum, sum.Size}
	}
	if v < 44 {
		return old
	}
	plain := make([]imagetypes.Summary, len(old))
	for i := range old {
		plain[i] = old[i].Summary
	}
	return plain
}

// imageConfig is an image's configuration as versions before 1.50 have it: that of a container. Always empty is what no image has.
type imageConfig struct {
	Hostname, Domainname                    string
	AttachStdin, AttachStdout, AttachStderr bool
	Tty, OpenStdin, StdinOnce               bool
	Image                                   string
	midConfig
}

// midConfig is the part that versions before 1.52 have whether it is empty or not.
type midConfig struct {
	User         string
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Env          []string
	Cmd          []string
	Healthcheck  *container.HealthConfig `json:",omitempty"`
	ArgsEscaped  bool                    `json:",omitempty"`
	Volumes      map[string]struct{}
	WorkingDir   string
	Entrypoint   []string
	OnBuild      []string
	Labels       map[string]string
	StopSignal   string   `json:",omitempty"`
	Shell        []string `json:",omitempty"`
}

// imageFor shapes an image's inspect as the version has it.
func imageFor(v version, resp *imagetypes.InspectResponse) (any, error) {
	if v < 48 {
		resp.Descriptor = nil
	}
	if v >= 52 {
		return resp, nil
	}
	var mid midConfig
	raw, err := json.Marshal(resp.Config)
	if err == nil {
		err = json.Unmarshal(raw, &mid) // The same fields under the same names.
	}
	if err != nil {
		return nil, fmt.Errorf("image's configuration: %w", err)
	}
	type always struct {
		*imagetypes.InspectResponse
		Parent, Comment, DockerVersion, Author string
		Config                                 any
	}
	out := always{InspectResponse: resp, Comment: resp.Comment, Author: resp.Author, Config: mid}
	if v >= 50 {
		return out, nil
	}
	old := imageConfig{midConfig: mid}
	out.Config = old
	if v >= 45 {
		return out, nil
	}
	type withContainer struct {
		always
		Container       string
		ContainerConfig imageConfig
	}
	// Images of today tell of no container that they were made in. docker-compose 1 looks there for the volumes that it is to keep
	// when it makes a container anew, so it gets what the image says.
	oldest := withContainer{always: out, ContainerConfig: old}
	if v == 44 {
		return oldest, nil
	}
	created := resp.Created
	if created == "" {
		created = "0001-01-01T00:00:00Z"
	}
	return struct {
		withContainer
		VirtualSize int64
		Created     string
	}{oldest, resp.Size, created}, nil
}

// onePlatform reads the parameter platform where one value is understood.
func onePlatform(r *request) (*ocispec.Platform, error) {
	all := r.query()["platform"]
	if len(all) > 1 {
		return nil, fmt.Errorf("specify a single platform: %w", errdefs.ErrInvalidArgument)
	}
	return platformOf(r.query().Get("platform"))
}
