package api

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/go-units"
	bkerrdefs "github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/moby/api/types/registry"

	"github.com/kistdev/kist/internal/build"
	"github.com/kistdev/kist/internal/buildmsg"
	"github.com/kistdev/kist/internal/fault"
)

// classicBuild is a request to docker's classic builder (DOCKER_BUILDKIT=0, docker-py, Compose v1), understood.
type classicBuild struct {
	buildmsg.Request
	remote   string
	quiet    bool
	auth     map[string]registry.AuthConfig
	warnings []string
}

// buildClassic serves docker's classic builds: the context is an archive in the body, or at a URL.
func (s *Server) buildClassic(w http.ResponseWriter, r *request) error {
	b, err := s.readClassic(r)
	if err != nil {
		return err
	}
	attrs, grants, err := buildOptions(&b.Request, s.hostGateway())
	if err != nil {
		return err
	}
	session, dir, err := s.classicSession(r, b)
	if err != nil {
		return err
	}
	defer func() {
		if err := removeSent(dir); err != nil {
			s.Log.Warn("remove what a client sent", "error", err)
		}
	}()
	if b.remote != "" {
		attrs["context"] = b.remote
	}
	p := newProgress(w)
	view := newClassicView(p, b.quiet, planClassic(dir, b))
	for _, text := range b.warnings {
		view.say("[Warning] " + text + "\n")
	}
	resp, err := s.Builder.Solve(r.Context(), build.Request{
		Frontend: frontend, Attrs: attrs, Session: session, CacheFrom: cacheOptions(b.CacheFrom), Entitlements: grants,
		Exports: exportsOf(&b.Request),
	}, view.status)
	view.finish(err)
	if err != nil {
		return classicFailure(p, err)
	}
	return b.told(p, r, buildResult(resp, b.Tags).ID)
}

// told ends the stream of a build that has made an image.
func (b *classicBuild) told(p *progress, r *request, id string) error {
	if r.version >= 30 {
		p.write(progressLine{Aux: map[string]string{"ID": id}})
	}
	if b.quiet {
		p.stream(id + "\n")
		return nil
	}
	_, hex, _ := strings.Cut(id, ":")
	p.stream("Successfully built " + hex[:min(12, len(hex))] + "\n")
	for _, tag := range b.Tags {
		p.stream("Successfully tagged " + tag + "\n")
	}
	return nil
}

// classicFailure ends the stream with docker's words: its command exits with the status of the command that failed.
func classicFailure(p *progress, err error) error {
	var step *build.StepError
	if !errors.As(err, &step) && len(bkerrdefs.Sources(err)) > 0 {
		return p.finish(badDockerfile{err})
	}
	if step == nil || step.Command == "" || step.ExitCode <= 0 {
		return p.finish(err)
	}
	text := fmt.Sprintf("The command '%s' returned a non-zero code: %d", step.Command, step.ExitCode)
	p.write(classicError{progressLine{Error: text}, classicDetail{Code: step.ExitCode, Message: text}})
	return nil
}

// badDockerfile is a mistake in the Dockerfile.
type badDockerfile struct{ error }

// Unwrap tells the class.
func (e badDockerfile) Unwrap() []error { return []error{e.error, errdefs.ErrInvalidArgument} }

// classicError is the last message of a build that failed with an exit status.
type classicError struct {
	progressLine
	ErrorDetail classicDetail `json:"errorDetail"`
}

type classicDetail struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// readClassic reads the parameters.
func (s *Server) readClassic(r *request) (*classicBuild, error) {
	q := r.query()
	b := &classicBuild{
		remote: q.Get("remote"), quiet: r.boolean("q"),
		Request: buildmsg.Request{
			Dockerfile: q.Get("dockerfile"), Target: q.Get("target"), NoCache: r.boolean("nocache"), Pull: r.boolean("pull"),
			Network: q.Get("networkmode"), CgroupParent: q.Get("cgroupparent"), AddHosts: splitHosts(q["extrahosts"]),
			Outputs: []buildmsg.Output{{Type: "image"}},
		},
	}
	if p := q.Get("platform"); p != "" {
		b.Platforms = []string{p}
	}
	for _, step := range []func(*request) error{b.readTags, b.readMaps, b.readLimits, b.refuse} {
		if err := step(r); err != nil {
			return nil, err
		}
	}
	b.auth = registryConfig(r)
	return b, nil
}

// splitHosts takes the list apart: docker's command sends it as one value with commas.
func splitHosts(values []string) []string {
	var list []string
	for _, v := range values {
		for h := range strings.SplitSeq(v, ",") {
			if h = strings.TrimSpace(h); h != "" {
				list = append(list, h)
			}
		}
	}
	return list
}

func (b *classicBuild) readTags(r *request) error {
	for _, t := range r.query()["t"] {
		if t == "" {
			continue
		}
		named, err := reference.ParseNormalizedNamed(t)
		if err != nil {
			return fmt.Errorf("invalid reference format: %q: %w: %w", t, err, errdefs.ErrInvalidArgument)
		}
		if _, digested := named.(reference.Digested); digested {
			return fmt.Errorf("build tag %q cannot contain a digest: %w", t, errdefs.ErrInvalidArgument)
		}
		b.Tags = append(b.Tags, reference.FamiliarString(reference.TagNameOnly(named)))
	}
	return nil
}

// readMaps reads the parameters that are JSON. A build argument that is null was named without a value, and the client
// did not have one.
func (b *classicBuild) readMaps(r *request) error {
	var args map[string]*string
	var from []string
	var limits []*units.Ulimit
	for key, to := range map[string]any{"buildargs": &args, "labels": &b.Labels, "cachefrom": &from, "ulimits": &limits} {
		raw := r.query().Get(key)
		if raw == "" {
			continue
		}
		if err := json.Unmarshal([]byte(raw), to); err != nil {
			return fmt.Errorf("error reading build %s: %w: %w", key, err, errdefs.ErrInvalidArgument)
		}
	}
	for k, v := range args {
		if v == nil {
			continue
		}
		if b.Args == nil {
			b.Args = map[string]string{}
		}
		b.Args[k] = *v
	}
	for _, ref := range from {
		b.CacheFrom = append(b.CacheFrom, buildmsg.Option{Type: "registry", Attrs: map[string]string{"ref": ref}})
	}
	for _, u := range limits {
		if u == nil {
			return fmt.Errorf("ulimits: null in the list: %w", errdefs.ErrInvalidArgument)
		}
		b.Ulimits = append(b.Ulimits, u.String())
	}
	return nil
}

// readLimits reads what a command may use. What the steps of a graph cannot be given is said, not passed over in silence.
func (b *classicBuild) readLimits(r *request) error {
	q := r.query()
	if v := q.Get("shmsize"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("shmsize %q: %w", v, errdefs.ErrInvalidArgument)
		}
		b.ShmSize = n
	}
	var ignored []string
	for _, key := range []string{"memory", "memswap", "cpushares", "cpuperiod", "cpuquota", "cpusetcpus", "cpusetmems"} {
		if v := q.Get(key); v != "" && v != "0" {
			ignored = append(ignored, key)
		}
	}
	if len(ignored) > 0 {
		b.warnings = append(b.warnings, "limits of commands are not applied: "+strings.Join(ignored, ", "))
	}
	return nil
}

// refuse says what the classic builder of docker did, and nothing here does.
func (b *classicBuild) refuse(r *request) error {
	q := r.query()
	switch v := q.Get("version"); {
	case v != "" && v != "1":
		return fmt.Errorf("invalid version %q of the builder: %w", v, errdefs.ErrInvalidArgument)
	case r.boolean("squash"):
		return fmt.Errorf("squashing an image's layers (--squash): %w", errdefs.ErrNotImplemented)
	case q.Get("outputs") != "":
		return fmt.Errorf("the classic builder makes images only; --output needs BuildKit (DOCKER_BUILDKIT=1): %w", errdefs.ErrInvalidArgument)
	case strings.HasPrefix(b.Network, "container:"):
		return &fault.Error{
			Code: "build-network", What: "cannot build with --network " + b.Network,
			Cause: "a build's commands have a network of their own, none, or the host's", Try: "--network host", Class: errdefs.ErrNotImplemented,
		}
	}
	if iso := q.Get("isolation"); iso != "" && iso != "default" {
		return fmt.Errorf("isolation %q: this is Linux: %w", iso, errdefs.ErrInvalidArgument)
	}
	if raw := q.Get("securityopt"); raw != "" && raw != "null" && raw != "[]" {
		return fmt.Errorf("security options for a build's commands (--security-opt): %w", errdefs.ErrNotImplemented)
	}
	return nil
}

// registryConfig reads the X-Registry-Config header: credentials by registry. Docker ignores one that it cannot read.
func registryConfig(r *request) map[string]registry.AuthConfig {
	raw := r.Header.Get("X-Registry-Config")
	if raw == "" {
		return nil
	}
	text, err := base64.URLEncoding.DecodeString(raw)
	if err != nil {
		return nil
	}
	var given map[string]registry.AuthConfig
	if json.Unmarshal(text, &given) != nil {
		return nil
	}
	auth := maps.Clone(given)
	for key, a := range given {
		host := strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
		host, _, _ = strings.Cut(host, "/")
		auth[host] = a
		if host == "index.docker.io" {
			auth["docker.io"], auth["registry-1.docker.io"] = a, a
		}
	}
	return auth
}

// dockerfileOf is the Dockerfile's path in the context.
func (b *classicBuild) dockerfileOf() string {
	if b.Dockerfile == "" {
		return "Dockerfile"
	}
	return path.Clean(b.Dockerfile)
}

func removeSent(dir string) error {
	if dir == "" {
		return nil
	}
	return os.RemoveAll(dir)
}
