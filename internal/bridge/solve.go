package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"
)

// Solve implements LLBBridge.
func (s *Service) Solve(ctx context.Context, r *gateway.SolveRequest) (*gateway.SolveResponse, error) {
	b, ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	req := gwclient.SolveRequest{
		Evaluate: r.Evaluate, Definition: r.Definition, Frontend: r.Frontend, FrontendOpt: r.FrontendOpt,
		FrontendInputs: r.FrontendInputs, SourcePolicies: r.SourcePolicies,
	}
	for _, c := range r.CacheImports {
		req.CacheImports = append(req.CacheImports, gwclient.CacheOptionsEntry{Type: c.GetType(), Attrs: c.GetAttrs()})
	}
	res, err := b.cfg.Gateway.Solve(ctx, req)
	if err != nil {
		return nil, b.tell(err)
	}
	if len(res.Refs) > 0 && !r.AllowResultReturn {
		return nil, errors.New("the result has several parts, which this client cannot take")
	}
	out, err := b.toWire(res, r.AllowResultArrayRef)
	if err != nil {
		return nil, err
	}
	resp := &gateway.SolveResponse{Result: out}
	if !r.AllowResultReturn {
		resp.Ref = out.GetRefDeprecated()
		if ref := out.GetRef(); ref != nil {
			resp.Ref = ref.Id
		}
	}
	if r.Final {
		return resp, b.finish(res, r.ExporterAttr)
	}
	return resp, nil
}

// finish ends a build of a client of 2018, which does not call Return.
func (b *Bridge) finish(res *gwclient.Result, attrs []byte) error {
	metadata := map[string][]byte{}
	if len(attrs) > 0 {
		if err := json.Unmarshal(attrs, &metadata); err != nil {
			return grpcerrors.WrapCode(fmt.Errorf("the result's metadata: %w", err), codes.InvalidArgument)
		}
	}
	maps.Copy(metadata, res.Metadata)
	return b.conclude(returned{result: &gwclient.Result{Ref: res.Ref, Metadata: metadata}})
}

// toWire puts a result's references and describes them.
func (b *Bridge) toWire(res *gwclient.Result, array bool) (*gateway.Result, error) {
	out := &gateway.Result{Metadata: res.Metadata}
	if res.Refs == nil {
		ref, err := b.put(res.Ref)
		if err != nil {
			return nil, err
		}
		out.Result = &gateway.Result_RefDeprecated{RefDeprecated: ref.Id}
		if array {
			out.Result = &gateway.Result_Ref{Ref: ref}
		}
	} else if err := b.putAll(out, res.Refs, array); err != nil {
		return nil, err
	}
	return out, b.putAttestations(out, res.Attestations)
}

func (b *Bridge) putAll(out *gateway.Result, refs map[string]gwclient.Reference, array bool) error {
	full, ids := make(map[string]*gateway.Ref, len(refs)), make(map[string]string, len(refs))
	for k, ref := range refs {
		one, err := b.put(ref)
		if err != nil {
			return err
		}
		full[k], ids[k] = one, one.Id
	}
	out.Result = &gateway.Result_RefsDeprecated{RefsDeprecated: &gateway.RefMapDeprecated{Refs: ids}}
	if array {
		out.Result = &gateway.Result_Refs{Refs: &gateway.RefMap{Refs: full}}
	}
	return nil
}

func (b *Bridge) putAttestations(out *gateway.Result, all map[string][]gwclient.Attestation) error {
	for k, list := range all {
		as := new(gateway.Attestations)
		for i := range list {
			a, err := gwclient.AttestationToPB(&list[i])
			if err != nil {
				return fmt.Errorf("attestation of %s: %w", k, err)
			}
			if list[i].Ref != nil {
				if a.Ref, err = b.put(list[i].Ref); err != nil {
					return err
				}
			}
			as.Attestation = append(as.Attestation, a)
		}
		if out.Attestations == nil {
			out.Attestations = map[string]*gateway.Attestations{}
		}
		out.Attestations[k] = as
	}
	return nil
}

// Return implements LLBBridge.
func (s *Service) Return(ctx context.Context, r *gateway.ReturnRequest) (*gateway.ReturnResponse, error) {
	b, _, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if r.Error != nil {
		return &gateway.ReturnResponse{}, b.conclude(returned{err: b.failure(r.Error)})
	}
	if r.Result == nil {
		return nil, grpcerrors.WrapCode(errors.New("neither a result nor an error was returned"), codes.InvalidArgument)
	}
	res, err := b.fromWire(r.Result)
	if err != nil {
		return nil, err
	}
	return &gateway.ReturnResponse{}, b.conclude(returned{result: res})
}

// fromWire finds the references that a result names.
func (b *Bridge) fromWire(r *gateway.Result) (*gwclient.Result, error) {
	res := gwclient.NewResult()
	res.Metadata = r.Metadata
	var err error
	switch v := r.Result.(type) {
	case *gateway.Result_RefDeprecated:
		res.Ref, err = b.optional(v.RefDeprecated)
	case *gateway.Result_Ref:
		res.Ref, err = b.optional(v.Ref.GetId())
	case *gateway.Result_RefsDeprecated:
		err = b.addAll(res, v.RefsDeprecated.GetRefs())
	case *gateway.Result_Refs:
		ids := make(map[string]string, len(v.Refs.GetRefs()))
		for k, ref := range v.Refs.GetRefs() {
			ids[k] = ref.GetId()
		}
		err = b.addAll(res, ids)
	}
	if err != nil {
		return nil, err
	}
	for k, list := range r.Attestations {
		for _, a := range list.GetAttestation() {
			att, err := gwclient.AttestationFromPB[gwclient.Reference](a)
			if err != nil {
				return nil, grpcerrors.WrapCode(err, codes.InvalidArgument)
			}
			if att.Ref, err = b.optional(a.Ref.GetId()); err != nil {
				return nil, err
			}
			res.AddAttestation(k, *att)
		}
	}
	return res, nil
}

func (b *Bridge) addAll(res *gwclient.Result, ids map[string]string) error {
	for k, id := range ids {
		ref, err := b.optional(id)
		if err != nil {
			return err
		}
		res.AddRef(k, ref)
	}
	return nil
}
