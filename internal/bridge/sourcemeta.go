package bridge

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// ResolveSourceMeta implements LLBBridge.
func (s *Service) ResolveSourceMeta(ctx context.Context, r *gateway.ResolveSourceMetaRequest) (*gateway.ResolveSourceMetaResponse, error) {
	b, ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if r.Source == nil {
		return nil, grpcerrors.WrapCode(errors.New("no source to resolve"), codes.InvalidArgument)
	}
	resp, err := b.cfg.Gateway.ResolveSourceMetadata(ctx, r.Source, resolveOptions(r))
	if err != nil {
		return nil, b.tell(err)
	}
	return metaToWire(resp), nil
}

func resolveOptions(r *gateway.ResolveSourceMetaRequest) sourceresolver.Opt {
	platform := platformOf(r.Platform)
	opt := sourceresolver.Opt{
		LogName: r.LogName, SourcePolicies: r.SourcePolicies,
		ImageOpt:     &sourceresolver.ResolveImageOpt{ResolveMode: r.ResolveMode, Platform: platform},
		OCILayoutOpt: &sourceresolver.ResolveOCILayoutOpt{Platform: platform},
	}
	if i := r.Image; i != nil {
		opt.ImageOpt.NoConfig, opt.ImageOpt.AttestationChain = i.NoConfig, i.AttestationChain
		opt.ImageOpt.ResolveAttestations = slices.Clone(i.ResolveAttestations)
	}
	if r.Git != nil {
		opt.GitOpt = &sourceresolver.ResolveGitOpt{ReturnObject: r.Git.ReturnObject}
	}
	return opt
}

func metaToWire(m *sourceresolver.MetaResponse) *gateway.ResolveSourceMetaResponse {
	out := &gateway.ResolveSourceMetaResponse{Source: m.Op}
	if i := m.Image; i != nil {
		out.Image = &gateway.ResolveSourceImageResponse{Digest: i.Digest.String(), Config: i.Config, AttestationChain: chainToWire(i.AttestationChain)}
	}
	if g := m.Git; g != nil {
		out.Git = &gateway.ResolveSourceGitResponse{
			Checksum: g.Checksum, Ref: g.Ref, CommitChecksum: g.CommitChecksum, CommitObject: g.CommitObject, TagObject: g.TagObject,
		}
	}
	if h := m.HTTP; h != nil {
		out.HTTP = &gateway.ResolveSourceHTTPResponse{Checksum: h.Digest.String(), Filename: h.Filename}
		if h.LastModified != nil {
			out.HTTP.LastModified = timestamppb.New(*h.LastModified)
		}
	}
	return out
}

func chainToWire(c *sourceresolver.AttestationChain) *gateway.AttestationChain {
	if c == nil {
		return nil
	}
	out := &gateway.AttestationChain{
		Root: c.Root.String(), ImageManifest: c.ImageManifest.String(), AttestationManifest: c.AttestationManifest.String(),
		Blobs: make(map[string]*gateway.Blob, len(c.Blobs)),
	}
	for _, d := range c.SignatureManifests {
		out.SignatureManifests = append(out.SignatureManifests, d.String())
	}
	for d, b := range c.Blobs {
		out.Blobs[d.String()] = &gateway.Blob{Data: b.Data, Descriptor_: &gateway.Descriptor{
			MediaType: b.Descriptor.MediaType, Size: b.Descriptor.Size, Digest: b.Descriptor.Digest.String(),
			Annotations: maps.Clone(b.Descriptor.Annotations),
		}}
	}
	return out
}
