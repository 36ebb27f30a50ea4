package buildkit

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	control "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/identity"
)

// legacyRequest reads docker's build options.
func legacyRequest(q url.Values) (*control.SolveRequest, error) {
	attrs := map[string]string{"image-resolve-mode": "local"}
	for key, attr := range map[string]string{"target": "target", "platform": "platform", "cgroupparent": "cgroup-parent"} {
		if v := q.Get(key); v != "" {
			attrs[attr] = strings.ToLower(v)
			if key != "platform" {
				attrs[attr] = v
			}
		}
	}
	if f := q.Get("dockerfile"); f != "" && f != "." {
		attrs["filename"] = f
	}
	if isSet(q.Get("nocache")) {
		attrs["no-cache"] = ""
	}
	if isSet(q.Get("pull")) {
		attrs["image-resolve-mode"] = "pull"
	}
	if n, err := strconv.ParseInt(q.Get("shmsize"), 10, 64); err == nil && n > 0 {
		attrs["shm-size"] = strconv.FormatInt(n, 10)
	}
	if hosts := q["extrahosts"]; len(hosts) > 0 {
		for i, h := range hosts { // docker says NAME:ADDRESS, BuildKit NAME=ADDRESS
			if name, addr, ok := strings.Cut(h, ":"); ok {
				hosts[i] = name + "=" + addr
			}
		}
		attrs["add-hosts"] = strings.Join(hosts, ",")
	}
	r := &control.SolveRequest{Ref: identity.NewID(), Session: q.Get("session"), Frontend: "dockerfile.v0", FrontendAttrs: attrs, Cache: new(control.CacheOptions)}
	switch mode := q.Get("networkmode"); mode {
	case "", "default":
	case "host":
		r.Entitlements = []string{"network.host"}
		attrs["force-network-mode"] = mode
	case "none":
		attrs["force-network-mode"] = mode
	default:
		return nil, fmt.Errorf("network mode %q is not supported in a build: use default, none or host: %w", mode, errdefs.ErrInvalidArgument)
	}
	return r, errors.Join(legacyMaps(q, r), legacyOutputs(q, r))
}

func isSet(v string) bool {
	switch strings.ToLower(v) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// legacyMaps reads the options that are JSON.
func legacyMaps(q url.Values, r *control.SolveRequest) error {
	var args map[string]*string
	var labels map[string]string
	var caches []string
	var limits []struct {
		Name       string
		Soft, Hard int64
	}
	for key, v := range map[string]any{"buildargs": &args, "labels": &labels, "cachefrom": &caches, "ulimits": &limits} {
		if raw := q.Get(key); raw != "" {
			if err := json.Unmarshal([]byte(raw), v); err != nil {
				return fmt.Errorf("invalid %s: %w: %w", key, err, errdefs.ErrInvalidArgument)
			}
		}
	}
	for k, v := range args {
		if v != nil {
			r.FrontendAttrs["build-arg:"+k] = *v
		}
	}
	for k, v := range labels {
		r.FrontendAttrs["label:"+k] = v
	}
	for _, ref := range caches {
		r.Cache.Imports = append(r.Cache.Imports, &control.CacheOptionsEntry{Type: "registry", Attrs: map[string]string{"ref": ref}})
	}
	if v := args["BUILDKIT_INLINE_CACHE"]; v != nil && isSet(*v) {
		r.Cache.Exports = append(r.Cache.Exports, &control.CacheOptionsEntry{Type: "inline"})
	}
	ulimits := make([]string, len(limits))
	for i, l := range limits {
		ulimits[i] = fmt.Sprintf("%s=%d:%d", l.Name, l.Soft, l.Hard)
	}
	if len(ulimits) > 0 {
		r.FrontendAttrs["ulimit"] = strings.Join(ulimits, ",")
	}
	return nil
}

// legacyOutputs reads what is to be made of the result: an image by default.
func legacyOutputs(q url.Values, r *control.SolveRequest) error {
	var outputs []struct {
		Type  string
		Attrs map[string]string
	}
	if raw := q.Get("outputs"); raw != "" {
		if err := json.Unmarshal([]byte(raw), &outputs); err != nil {
			return fmt.Errorf("invalid outputs: %w: %w", err, errdefs.ErrInvalidArgument)
		}
	}
	if len(outputs) == 0 {
		r.Exporters = []*control.Exporter{{Type: "moby", Attrs: map[string]string{}}}
	}
	for _, o := range outputs {
		if o.Type == "cacheonly" {
			continue
		}
		if o.Attrs == nil {
			o.Attrs = map[string]string{}
		}
		r.Exporters = append(r.Exporters, &control.Exporter{Type: o.Type, Attrs: o.Attrs})
	}
	if names := q["t"]; len(names) > 0 {
		for _, e := range r.Exporters {
			if e.Type == "moby" || e.Type == "image" {
				e.Attrs["name"] = strings.Join(names, ",")
			}
		}
	}
	return nil
}
