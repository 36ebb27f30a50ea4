package api

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/build"
	"github.com/kistdev/kist/internal/buildmsg"
)

// frontend is the one that is built in.
const frontend = "dockerfile.v0"

// uploadedContext is the URL of a context that the client sends as an archive; the host is the one that builders ask their
// session for.
const uploadedContext = "http://buildkit-session/context"

// buildOptions turns a request into the frontend's options, as buildx writes them, and the grants that follow from them.
func buildOptions(r *buildmsg.Request, hostGateway string) (attrs map[string]string, grants []string, err error) {
	attrs = map[string]string{"image-resolve-mode": "local"}
	if r.Pull {
		attrs["image-resolve-mode"] = "pull"
	}
	put := func(key, value string) {
		if value != "" {
			attrs[key] = value
		}
	}
	put("target", r.Target)
	put("filename", r.Dockerfile)
	put("platform", strings.Join(r.Platforms, ","))
	put("cgroup-parent", r.CgroupParent)
	put("ulimit", strings.Join(r.Ulimits, ","))
	put("no-cache", strings.Join(r.NoCacheFilter, ","))
	if r.NoCache {
		attrs["no-cache"] = ""
	}
	if r.ShmSize > 0 {
		attrs["shm-size"] = strconv.FormatInt(r.ShmSize, 10)
	}
	for k, v := range r.Args {
		attrs["build-arg:"+k] = v
	}
	for k, v := range r.Labels {
		attrs["label:"+k] = v
	}
	for k, v := range r.Attests {
		attrs["attest:"+k] = v
	}
	grants = slices.Clone(r.Allow)
	switch r.Network {
	case "", "default", "bridge":
	case "none":
		attrs["force-network-mode"] = r.Network
	case "host":
		attrs["force-network-mode"] = r.Network
		grants = append(grants, "network.host")
	default:
		return nil, nil, fmt.Errorf("--network %s: a build's commands have the network default, none or host: %w", r.Network, errdefs.ErrInvalidArgument)
	}
	hosts, err := addHosts(r.AddHosts, hostGateway)
	if err != nil {
		return nil, nil, err
	}
	put("add-hosts", hosts)
	if r.Call != "" {
		attrs["requestid"] = r.Call
		attrs["frontend.caps"] = "moby.buildkit.frontend.subrequests"
	}
	contextOptions(r, attrs)
	return attrs, grants, nil
}

// addHosts reads NAME:ADDRESS and NAME=ADDRESS; the address host-gateway is this machine's.
func addHosts(list []string, gateway string) (string, error) {
	out := make([]string, len(list))
	for i, h := range list {
		name, addr, ok := strings.Cut(h, "=")
		if !ok {
			name, addr, ok = strings.Cut(h, ":")
		}
		if !ok || name == "" || addr == "" {
			return "", fmt.Errorf("--add-host %s: want NAME:ADDRESS: %w", h, errdefs.ErrInvalidArgument)
		}
		if addr == "host-gateway" {
			if gateway == "" {
				return "", fmt.Errorf("--add-host %s: this machine has no bridge to be reached by: %w", h, errdefs.ErrFailedPrecondition)
			}
			addr = gateway
		}
		out[i] = name + "=" + strings.Trim(addr, "[]")
	}
	return strings.Join(out, ","), nil
}

// contextOptions say where the contexts and the Dockerfile are.
func contextOptions(r *buildmsg.Request, attrs map[string]string) {
	switch {
	case r.Context.Ref != "":
		attrs["context"] = r.Context.Ref
		if r.Text != nil || r.DockerfileDir != nil {
			attrs["dockerfilekey"] = "dockerfile"
		}
	case r.Context.Stream:
		attrs["context"] = uploadedContext
		if r.Text != nil || r.DockerfileDir != nil {
			attrs["dockerfilekey"] = "dockerfile"
		}
	}
	for name, src := range r.Contexts {
		switch {
		case src.Ref != "":
			attrs["context:"+name] = src.Ref
		case src.Dir != nil:
			attrs["context:"+name] = "local:" + localName(name)
		}
	}
	if len(r.Platforms) > 1 {
		attrs["multi-platform"] = "true"
	}
}

// localName is what a named context's directory is called in the session: a name of the user's must not be taken for one of
// the frontend's own.
func localName(name string) string {
	if name == "context" || name == "dockerfile" {
		return name
	}
	return "named-" + name
}

// exportsOf are the things to make.
func exportsOf(r *buildmsg.Request) []build.Export {
	var list []build.Export
	for i, o := range r.Outputs {
		attrs := maps.Clone(o.Attrs)
		if attrs == nil {
			attrs = map[string]string{}
		}
		kind := o.Type
		if kind == "local" && o.ToClient {
			kind = "tar" // The client unpacks it.
		}
		if names := strings.Join(r.Tags, ","); names != "" && attrs["name"] == "" && (kind == "image" || kind == "docker" || kind == "oci") {
			attrs["name"] = names
		}
		for k, v := range r.Annotations {
			attrs["annotation."+k] = v
		}
		list = append(list, build.Export{ID: i, Type: kind, Attrs: attrs})
	}
	return list
}

func cacheOptions(list []buildmsg.Option) []build.CacheOption {
	out := make([]build.CacheOption, len(list))
	for i, o := range list {
		out[i] = build.CacheOption{Type: o.Type, Attrs: o.Attrs}
	}
	return out
}
