package bridge

import (
	"context"
	"errors"

	types "github.com/moby/buildkit/api/types"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	apicapspb "github.com/moby/buildkit/util/apicaps/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/codes"
)

// maxFile bounds what ReadFile answers with: less than a gRPC message.
const maxFile = MaxMessage - 64<<10

// notServed are capabilities of BuildKit that this builder has not: clients then say so, or do without.
var notServed = map[apicaps.CapID]bool{
	gateway.CapGatewayExec: true, gateway.CapGatewayExecExtraHosts: true, gateway.CapGatewayExecSecretEnv: true,
	gateway.CapGatewayExecSignals: true, gateway.CapGatewayExecFilesystem: true,
	pb.CapRemoteCacheGHA: true, pb.CapRemoteCacheS3: true, pb.CapRemoteCacheAzBlob: true,
	pb.CapSourcePolicy: true, pb.CapSourcePolicySession: true, pb.CapSessionExporter: true, pb.CapExecMetaNetworkProxy: true,
	gateway.CapSourceMetaResolverImageAttestations: true, gateway.CapSourceMetaResolverHTTPChecksumRequest: true,
}

func served(all []*apicapspb.APICap) []*apicapspb.APICap {
	list := make([]*apicapspb.APICap, 0, len(all))
	for _, c := range all {
		if !notServed[apicaps.CapID(c.ID)] {
			list = append(list, c)
		}
	}
	return list
}

// WorkerID names this machine as a worker of BuildKit's: there is one.
const WorkerID = "kist"

// pong answers a Ping.
func (b *Bridge) pong() *gateway.PongResponse {
	var list []ocispec.Platform
	if b.cfg.Platforms != nil {
		list = b.cfg.Platforms()
	}
	return &gateway.PongResponse{
		FrontendAPICaps: served(gateway.Caps.All()), LLBCaps: served(pb.Caps.All()),
		Workers: []*types.WorkerRecord{{ID: WorkerID, Platforms: pb.PlatformsFromSpec(list)}},
	}
}

// Ping implements LLBBridge.
func (s *Service) Ping(ctx context.Context, _ *gateway.PingRequest) (*gateway.PongResponse, error) {
	b, _, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return b.pong(), nil
}

// Inputs implements LLBBridge.
func (s *Service) Inputs(ctx context.Context, _ *gateway.InputsRequest) (*gateway.InputsResponse, error) {
	b, _, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return &gateway.InputsResponse{Definitions: b.cfg.Inputs}, nil
}

// Warn implements LLBBridge.
func (s *Service) Warn(ctx context.Context, r *gateway.WarnRequest) (*gateway.WarnResponse, error) {
	b, ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	err = b.cfg.Gateway.Warn(ctx, digest.Digest(r.Digest), string(r.Short), gwclient.WarnOpts{
		Level: int(r.Level), SourceInfo: r.Info, Range: r.Ranges, Detail: r.Detail, URL: r.Url,
	})
	return &gateway.WarnResponse{}, err
}

// ResolveImageConfig implements LLBBridge.
func (s *Service) ResolveImageConfig(ctx context.Context, r *gateway.ResolveImageConfigRequest) (*gateway.ResolveImageConfigResponse, error) {
	b, ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	opt := sourceresolver.Opt{LogName: r.LogName, SourcePolicies: r.SourcePolicies}
	platform := platformOf(r.Platform)
	switch sourceresolver.ResolverType(r.ResolverType) {
	case sourceresolver.ResolverTypeOCILayout:
		opt.OCILayoutOpt = &sourceresolver.ResolveOCILayoutOpt{
			Platform: platform, Store: sourceresolver.ResolveImageConfigOptStore{SessionID: r.SessionID, StoreID: r.StoreID},
		}
	default:
		opt.ImageOpt = &sourceresolver.ResolveImageOpt{Platform: platform, ResolveMode: r.ResolveMode}
	}
	ref, dgst, config, err := b.cfg.Gateway.ResolveImageConfig(ctx, r.Ref, opt)
	if err != nil {
		return nil, b.tell(err)
	}
	return &gateway.ResolveImageConfigResponse{Ref: ref, Digest: dgst.String(), Config: config}, nil
}

func platformOf(p *pb.Platform) *ocispec.Platform {
	if p == nil {
		return nil
	}
	spec := p.Spec()
	return &spec
}

// ReadFile implements LLBBridge.
func (s *Service) ReadFile(ctx context.Context, r *gateway.ReadFileRequest) (*gateway.ReadFileResponse, error) {
	b, ref, ctx, leave, err := s.reference(ctx, r.Ref)
	if err != nil {
		return nil, err
	}
	defer leave()
	req := gwclient.ReadRequest{Filename: r.FilePath}
	if r.Range != nil {
		req.Range = &gwclient.FileRange{Offset: int(r.Range.Offset), Length: int(r.Range.Length)}
	}
	data, err := ref.ReadFile(ctx, req)
	if err != nil {
		return nil, b.tell(err)
	}
	if len(data) > maxFile {
		return nil, grpcerrors.WrapCode(errors.New(r.FilePath+" is too large to be read in one piece"), codes.ResourceExhausted)
	}
	return &gateway.ReadFileResponse{Data: data}, nil
}

// ReadDir implements LLBBridge.
func (s *Service) ReadDir(ctx context.Context, r *gateway.ReadDirRequest) (*gateway.ReadDirResponse, error) {
	b, ref, ctx, leave, err := s.reference(ctx, r.Ref)
	if err != nil {
		return nil, err
	}
	defer leave()
	entries, err := ref.ReadDir(ctx, gwclient.ReadDirRequest{Path: r.DirPath, IncludePattern: r.IncludePattern})
	return &gateway.ReadDirResponse{Entries: entries}, b.tell(err)
}

// StatFile implements LLBBridge.
func (s *Service) StatFile(ctx context.Context, r *gateway.StatFileRequest) (*gateway.StatFileResponse, error) {
	b, ref, ctx, leave, err := s.reference(ctx, r.Ref)
	if err != nil {
		return nil, err
	}
	defer leave()
	st, err := ref.StatFile(ctx, gwclient.StatRequest{Path: r.Path})
	return &gateway.StatFileResponse{Stat: st}, b.tell(err)
}

// Evaluate implements LLBBridge.
func (s *Service) Evaluate(ctx context.Context, r *gateway.EvaluateRequest) (*gateway.EvaluateResponse, error) {
	b, ref, ctx, leave, err := s.reference(ctx, r.Ref)
	if err != nil {
		return nil, err
	}
	defer leave()
	return &gateway.EvaluateResponse{}, b.tell(ref.Evaluate(ctx))
}

// errNoContainers answers what debuggers ask for, and few frontends.
func errNoContainers() error {
	return grpcerrors.WrapCode(errors.New("kist does not run a frontend's own containers beside a build: let the frontend put the command into the graph, or build a stage and run its image (--target)"), codes.Unimplemented)
}

// NewContainer implements LLBBridge.
func (*Service) NewContainer(context.Context, *gateway.NewContainerRequest) (*gateway.NewContainerResponse, error) {
	return nil, errNoContainers()
}

// ReleaseContainer implements LLBBridge.
func (*Service) ReleaseContainer(context.Context, *gateway.ReleaseContainerRequest) (*gateway.ReleaseContainerResponse, error) {
	return nil, errNoContainers()
}

// ExecProcess implements LLBBridge.
func (*Service) ExecProcess(gateway.LLBBridge_ExecProcessServer) error { return errNoContainers() }

// ReadFileContainer implements LLBBridge.
func (*Service) ReadFileContainer(context.Context, *gateway.ReadFileRequest) (*gateway.ReadFileResponse, error) {
	return nil, errNoContainers()
}

// ReadDirContainer implements LLBBridge.
func (*Service) ReadDirContainer(context.Context, *gateway.ReadDirRequest) (*gateway.ReadDirResponse, error) {
	return nil, errNoContainers()
}

// StatFileContainer implements LLBBridge.
func (*Service) StatFileContainer(context.Context, *gateway.StatFileRequest) (*gateway.StatFileResponse, error) {
	return nil, errNoContainers()
}
