package build

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/frontend/attestations"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/llbsolver/provenance"
	provenancetypes "github.com/moby/buildkit/solver/llbsolver/provenance/types"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/kistdev/kist/internal/image"
)

// provenanceOptions are those of --provenance.
type provenanceOptions struct {
	min, inlineOnly, reproducible bool
	builder                       string
	version                       provenancetypes.ProvenanceSLSA
}

// wantedProvenance reads what the client asked for; nil means none.
func wantedProvenance(attrs map[string]string) (*provenanceOptions, error) {
	all, err := attestations.Parse(attrs)
	if err != nil {
		return nil, fmt.Errorf("attestations: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	wish, ok := all[attestations.KeyTypeProvenance]
	if !ok {
		return nil, nil //nolint:nilnil // None is wanted.
	}
	o := &provenanceOptions{builder: wish["builder-id"], version: provenancetypes.ProvenanceSLSA(wish["version"])}
	if disabled, _ := strconv.ParseBool(wish["disabled"]); disabled {
		return nil, nil //nolint:nilnil // None is wanted.
	}
	switch mode := wish["mode"]; mode {
	case "min":
		o.min = true
	case "", "max", "full":
	default:
		return nil, fmt.Errorf("provenance: mode=%s: there are min and max: %w", mode, errdefs.ErrInvalidArgument)
	}
	o.inlineOnly, _ = strconv.ParseBool(wish["inline-only"])
	o.reproducible, _ = strconv.ParseBool(wish["reproducible"])
	if o.version == "" {
		o.version = provenancetypes.ProvenanceSLSA1
	}
	if err := o.version.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return o, nil
}

// prove makes the statement of how a result came to be.
func (j *job) prove(o *provenanceOptions, ref *Reference) (attestation, error) {
	capture := j.capture(ref)
	p, err := provenance.NewPredicate(capture)
	if err != nil {
		return attestation{}, fmt.Errorf("provenance: %w", err)
	}
	now, meta := time.Now().UTC(), p.RunDetails.Metadata
	began := j.began.UTC()
	meta.StartedOn, meta.FinishedOn, meta.InvocationID, meta.Reproducible = &began, &now, j.ref, o.reproducible
	p.RunDetails.Builder.ID = o.builder
	if o.min {
		meta.Completeness.Request = !scrub(&p.BuildDefinition.ExternalParameters.Request) && meta.Completeness.Request
	} else if ref != nil && ref.def != nil {
		if _, err := provenance.AddBuildConfig(j.ctx, p, capture, graphOf{def: ref.def}, false); err != nil {
			return attestation{}, fmt.Errorf("provenance: %w", err)
		}
	}
	a := attestation{File: "provenance.json", ImagesOnly: o.inlineOnly}
	a.PredicateType = "https://slsa.dev/provenance/v1"
	var predicate any = p
	if o.version == provenancetypes.ProvenanceSLSA02 {
		a.PredicateType, predicate = "https://slsa.dev/provenance/v0.2", p.ConvertToSLSA02()
	}
	a.Predicate, err = json.Marshal(predicate)
	return a, err
}

// provenances are the statements of how all results came to be, whatever was asked for the image.
func (j *job) provenances(res *gwclient.Result) (map[string]Provenance, error) {
	o, err := wantedProvenance(j.req.Attrs)
	if err != nil {
		return nil, err
	}
	all := provenanceOptions{version: provenancetypes.ProvenanceSLSA1}
	if o != nil {
		all.builder, all.reproducible = o.builder, o.reproducible
	}
	made := map[string]Provenance{}
	add := func(platform string, ref gwclient.Reference) error {
		own, ok := ref.(*Reference)
		if !ok || own == nil {
			return nil
		}
		a, err := j.prove(&all, own)
		made[platform] = Provenance{a.PredicateType, a.Predicate}
		return err
	}
	if err := add("", res.Ref); err != nil {
		return nil, err
	}
	for platform, ref := range res.Refs {
		if err := add(platform, ref); err != nil {
			return nil, err
		}
	}
	return made, nil
}

// graphOf gives BuildKit's library the one thing that it wants of a result.
type graphOf struct {
	solver.ResultProxy
	def *pb.Definition
}

// Definition is the graph.
func (g graphOf) Definition() *pb.Definition { return g.def }

// scrub takes out what may be nobody's business, and says whether there was something.
func scrub(p *provenancetypes.Parameters) bool {
	n := len(p.Args)
	p.Args = maps.Clone(p.Args)
	maps.DeleteFunc(p.Args, func(k, _ string) bool { return strings.HasPrefix(k, "build-arg:") || strings.HasPrefix(k, "label:") })
	p.Secrets, p.SSH = nil, nil
	return len(p.Args) < n
}

// capture gathers what a result was made from.
func (j *job) capture(ref *Reference) *provenance.Capture {
	c := &provenance.Capture{}
	j.mu.Lock()
	c.Request.Frontend, c.Request.Args = j.frontend, provenance.FilterArgs(j.attrs)
	frontends := slices.Clone(j.frontends)
	j.mu.Unlock()
	seen := map[*vertex]bool{}
	for _, v := range frontends {
		each(v, seen, func(v *vertex) { j.captureVertex(c, v) })
	}
	if ref == nil {
		return c
	}
	each(ref.edge.vertex, map[*vertex]bool{}, func(v *vertex) {
		j.captureVertex(c, v)
	})
	c.Sort()
	return c
}

func (j *job) captureVertex(c *provenance.Capture, v *vertex) {
	if e := v.op.GetExec(); e != nil {
		c.NetworkAccess = c.NetworkAccess || e.Network != pb.NetMode_NONE
		for _, m := range e.Mounts {
			if s := m.SecretOpt; s != nil {
				c.AddSecret(provenancetypes.Secret{ID: s.ID, Optional: s.Optional})
			}
			if s := m.SSHOpt; s != nil {
				c.AddSSH(provenancetypes.SSH{ID: s.ID, Optional: s.Optional})
			}
		}
		for _, s := range e.Secretenv {
			c.AddSecret(provenancetypes.Secret{ID: s.ID, Optional: s.Optional})
		}
		return
	}
	if v.op.GetSource() == nil {
		return
	}
	j.mu.Lock()
	s := j.steps[stepID{v.digest, v.meta.IgnoreCache}]
	j.mu.Unlock()
	var op operation
	if s != nil {
		op = s.op
	} else if d := j.knownDefinition(v); d != nil { // The source was not needed, but what stands on it was found by it.
		op = d.op
	}
	switch o := op.(type) {
	case *imageOp:
		p := platformOf(v.op)
		c.AddImage(provenancetypes.ImageSource{Ref: o.ref, Platform: &p, Digest: o.found.digest})
	case *layoutOp:
		p := platformOf(v.op)
		_, d, _ := strings.Cut(o.ref, "@")
		c.AddImage(provenancetypes.ImageSource{Ref: o.ref, Platform: &p, Digest: digest.Digest(d), Local: true})
	case *localOp:
		c.AddLocal(provenancetypes.LocalSource{Name: o.name})
	case *httpOp:
		if o.found != nil {
			c.AddHTTP(provenancetypes.HTTPSource{URL: redact(o.url), Digest: o.found.Digest})
		}
	case *gitOp:
		url := redact(o.repo.Remote)
		if o.repo.Ref != "" {
			url += "#" + o.repo.Ref
		}
		c.AddGit(provenancetypes.GitSource{URL: url, Commit: o.found.ID})
	}
}

// attest gathers the statements about a product: how it was made, and what the frontend had a scanner find in it.
func (j *job) attest(p *product, ref *Reference, found []gwclient.Attestation) error {
	o, err := wantedProvenance(j.req.Attrs)
	if err != nil {
		return err
	}
	if o != nil {
		a, err := j.prove(o, ref)
		if err != nil {
			return err
		}
		p.Attestations = append(p.Attestations, a)
	}
	for _, f := range found {
		more, err := j.statements(f)
		if err != nil {
			return fmt.Errorf("attestation %s: %w", f.Path, err)
		}
		p.Attestations = append(p.Attestations, more...)
	}
	return nil
}

// statements reads what a frontend had made: a predicate, or a directory of statements.
func (j *job) statements(f gwclient.Attestation) ([]attestation, error) {
	read := func(name string) ([]byte, error) {
		if f.ContentFunc != nil {
			return f.ContentFunc(j.ctx)
		}
		if f.Ref == nil {
			return nil, fmt.Errorf("it has no content: %w", errdefs.ErrInvalidArgument)
		}
		return f.Ref.ReadFile(j.ctx, gwclient.ReadRequest{Filename: name})
	}
	file := path.Base(f.Path)
	if f.Kind == gwpb.AttestationKind_InToto {
		raw, err := read(f.Path)
		if err != nil {
			return nil, err
		}
		return []attestation{{File: file, Attestation: image.Attestation{PredicateType: f.InToto.PredicateType, Predicate: raw}}}, nil
	}
	if f.Ref == nil {
		return nil, fmt.Errorf("it has no content: %w", errdefs.ErrInvalidArgument)
	}
	list, err := f.Ref.ReadDir(j.ctx, gwclient.ReadDirRequest{Path: f.Path})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b *fstypes.Stat) int { return strings.Compare(a.Path, b.Path) })
	var all []attestation
	for _, st := range list {
		raw, err := read(path.Join(f.Path, st.Path))
		if err != nil {
			return nil, err
		}
		var s struct {
			PredicateType string          `json:"predicateType"`
			Predicate     json.RawMessage `json:"predicate"`
		}
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, fmt.Errorf("%s: %w: %w", st.Path, err, errdefs.ErrInvalidArgument)
		}
		all = append(all, attestation{File: path.Base(st.Path), Attestation: image.Attestation{PredicateType: s.PredicateType, Predicate: s.Predicate}})
	}
	return all, nil
}
