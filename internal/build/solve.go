package build

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/containerd/errdefs"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"golang.org/x/sync/errgroup"
)

// build is the whole of one build, from the request to its exports.
func (j *job) build(f Gateway) (*Response, error) {
	res, err := j.result(f)
	if err == nil {
		err = j.evaluateAll(res)
	}
	if err != nil {
		j.remember(false)
		return nil, err
	}
	j.tellSpared(res)
	resp := &Response{Ref: j.ref, Exporter: map[string]string{}, Metadata: map[string][]byte{}}
	maps.Copy(resp.Metadata, res.Metadata)
	for k, v := range res.Metadata {
		if strings.HasPrefix(k, "frontend.") {
			resp.Exporter[k] = string(v)
		}
	}
	if err := j.export(res, resp); err != nil {
		j.remember(false)
		return nil, err
	}
	if j.req.Record {
		if resp.Provenance, err = j.provenances(res); err != nil {
			j.remember(false)
			return nil, err
		}
	}
	resp.Summary = j.remember(true)
	return resp, nil
}

// result is what the frontend gives.
func (j *job) result(f Gateway) (*gwclient.Result, error) {
	attrs := maps.Clone(j.req.Attrs)
	if attrs == nil {
		attrs = map[string]string{}
	}
	g := &gateway{j: j, attrs: attrs, inputs: j.req.Inputs}
	if err := j.addImports(j.ctx, importsOf(j.req.CacheFrom)); err != nil {
		return nil, err
	}
	if f == nil {
		return g.Solve(j.ctx, gwclient.SolveRequest{
			Frontend: j.req.Frontend, FrontendOpt: attrs, FrontendInputs: j.req.Inputs, Definition: j.req.Definition,
			Evaluate: j.req.Evaluate,
		})
	}
	res, err := f(j.ctx, g)
	if err == nil && res == nil {
		err = fmt.Errorf("the client's frontend gave no result: %w", errdefs.ErrInvalidArgument)
	}
	if err != nil && j.ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = context.Cause(j.ctx)
	}
	return res, err
}

func importsOf(options []CacheOption) []gwclient.CacheOptionsEntry {
	all := make([]gwclient.CacheOptionsEntry, 0, len(options))
	for _, o := range options {
		all = append(all, gwclient.CacheOptionsEntry{Type: o.Type, Attrs: o.Attrs})
	}
	return all
}

// evaluateAll makes every result that is exported, side by side.
func (j *job) evaluateAll(res *gwclient.Result) error {
	if res.IsEmpty() && len(res.Refs) == 0 {
		return nil
	}
	g, ctx := errgroup.WithContext(j.ctx)
	err := res.EachRef(func(r gwclient.Reference) error {
		if r == nil {
			return nil
		}
		if own, ok := r.(*Reference); !ok || own.j != j {
			return fmt.Errorf("a result of another build: %w", errdefs.ErrInvalidArgument)
		}
		g.Go(func() error { return r.Evaluate(ctx) })
		return nil
	})
	return errors.Join(err, g.Wait())
}
