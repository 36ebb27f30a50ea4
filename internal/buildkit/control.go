package buildkit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	control "github.com/moby/buildkit/api/services/control"
	types "github.com/moby/buildkit/api/types"
	"github.com/moby/buildkit/session/grpchijack"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/kistdev/kist/internal/bridge"
	"github.com/kistdev/kist/internal/build"
)

// protocol is the version of BuildKit whose protocol this is: clients decide by it what they may ask for.
const (
	protocolPackage = "github.com/moby/buildkit"
	protocolVersion = "v0.33.1"
)

// controller implements BuildKit's Control service.
type controller struct {
	s *Server
}

// Solve implements Control.
func (c *controller) Solve(ctx context.Context, r *control.SolveRequest) (*control.SolveResponse, error) {
	if r.Ref == "" {
		return nil, grpcerrors.WrapCode(errors.New("a build needs a ref"), codes.InvalidArgument)
	}
	req, err := c.s.request(ctx, r)
	if err != nil {
		return nil, err
	}
	j, err := c.s.jobs.begin(r, time.Now())
	if err != nil {
		return nil, err
	}
	var resp *build.Response
	if r.Frontend == "" && r.Definition == nil {
		resp, err = c.s.solveByClient(ctx, req, j.add)
	} else {
		resp, err = c.s.cfg.Builder.Solve(ctx, req, j.add)
	}
	j.end(resp, err, time.Now())
	if err != nil {
		return nil, err
	}
	return &control.SolveResponse{ExporterResponse: resp.Exporter}, nil
}

// request turns a client's request into the builder's.
func (s *Server) request(ctx context.Context, r *control.SolveRequest) (build.Request, error) {
	evenOut(r)
	if len(r.SourcePolicy.GetRules()) > 0 || r.SourcePolicySession != "" {
		// A policy that is not obeyed would be worse than none.
		return build.Request{}, grpcerrors.WrapCode(errors.New("kist does not serve source policies; build without them (buildx: --policy disabled=true)"), codes.Unimplemented)
	}
	sess, err := s.session(ctx, r.Session)
	if err != nil {
		return build.Request{}, err
	}
	req := build.Request{
		Ref: r.Ref, Frontend: r.Frontend, Attrs: r.FrontendAttrs, Inputs: r.FrontendInputs, Definition: r.Definition,
		Session: sess, Entitlements: r.Entitlements, Internal: r.Internal, Record: !r.Internal,
	}
	for i, e := range r.Exporters {
		req.Exports = append(req.Exports, build.Export{ID: i, Type: e.GetType(), Attrs: e.GetAttrs()})
	}
	for _, o := range r.Cache.Imports {
		req.CacheFrom = append(req.CacheFrom, build.CacheOption{Type: o.GetType(), Attrs: o.GetAttrs()})
	}
	for _, o := range r.Cache.Exports {
		req.CacheTo = append(req.CacheTo, build.CacheOption{Type: o.GetType(), Attrs: o.GetAttrs()})
	}
	return req, nil
}

// evenOut moves what old clients say in other fields to where new ones say it.
func evenOut(r *control.SolveRequest) {
	if r.Cache == nil {
		r.Cache = new(control.CacheOptions)
	}
	c := r.Cache
	if c.ExportRefDeprecated != "" {
		attrs := map[string]string{"ref": c.ExportRefDeprecated}
		for k, v := range c.ExportAttrsDeprecated {
			attrs[k] = v
		}
		c.Exports = append(c.Exports, &control.CacheOptionsEntry{Type: "registry", Attrs: attrs})
	}
	for _, ref := range c.ImportRefsDeprecated {
		c.Imports = append(c.Imports, &control.CacheOptionsEntry{Type: "registry", Attrs: map[string]string{"ref": ref}})
	}
	if len(r.Exporters) == 0 && r.ExporterDeprecated != "" {
		r.Exporters = []*control.Exporter{{Type: r.ExporterDeprecated, Attrs: r.ExporterAttrsDeprecated}}
	}
}

// Session implements Control: a session over the control connection, as buildctl and buildx's remote driver open it.
func (c *controller) Session(stream control.Control_SessionServer) error {
	conn, closed, header := grpchijack.Hijack(stream)
	defer conn.Close()
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	go func() {
		select {
		case <-closed:
			cancel()
		case <-ctx.Done():
		}
	}()
	return c.s.ServeSession(ctx, conn, header)
}

// ListWorkers implements Control. There is one worker, this machine. Its labels tell buildx what it would ask a docker
// daemon with the containerd image store for: several platforms, exports of all types, caches, attestations.
func (c *controller) ListWorkers(context.Context, *control.ListWorkersRequest) (*control.ListWorkersResponse, error) {
	labels := map[string]string{
		"org.mobyproject.buildkit.worker.executor":    "kist",
		"org.mobyproject.buildkit.worker.snapshotter": "overlay",
		"org.mobyproject.buildkit.worker.network":     "bridge",
	}
	if c.s.cfg.HostGateway != nil {
		if ip := c.s.cfg.HostGateway(); ip != "" {
			labels["org.mobyproject.buildkit.worker.moby.host-gateway-ip"] = ip
		}
	}
	return &control.ListWorkersResponse{Record: []*types.WorkerRecord{{
		ID: bridge.WorkerID, Labels: labels, Platforms: pb.PlatformsFromSpec(c.s.platforms()), BuildkitVersion: c.s.version(),
	}}}, nil
}

// Info implements Control.
func (c *controller) Info(context.Context, *control.InfoRequest) (*control.InfoResponse, error) {
	return &control.InfoResponse{BuildkitVersion: c.s.version()}, nil
}

func (s *Server) version() *types.BuildkitVersion {
	return &types.BuildkitVersion{Package: protocolPackage, Version: protocolVersion, Revision: "kist " + s.cfg.Version}
}

// DiskUsage implements Control.
func (c *controller) DiskUsage(ctx context.Context, r *control.DiskUsageRequest) (*control.DiskUsageResponse, error) {
	records, err := c.s.cfg.Builder.Usage(ctx, said(r.Filter))
	if err != nil {
		return nil, err
	}
	resp := new(control.DiskUsageResponse)
	for i := range records {
		if r.AgeLimit > 0 && time.Since(records[i].LastUsed) < time.Duration(r.AgeLimit) {
			continue
		}
		resp.Record = append(resp.Record, usageRecord(&records[i]))
	}
	return resp, nil
}

// said are the filters that say something: buildx sends an empty one for none.
func said(filters []string) []string {
	return slices.DeleteFunc(slices.Clone(filters), func(f string) bool { return strings.TrimSpace(f) == "" })
}

// Prune implements Control.
func (c *controller) Prune(r *control.PruneRequest, stream control.Control_PruneServer) error {
	o := build.PruneOptions{
		All: r.All, Filters: said(r.Filter), KeepFor: time.Duration(r.KeepDuration), Keep: r.ReservedSpace,
		MaxUsed: r.MaxUsedSpace, MinFree: r.MinFreeSpace,
	}
	var failed error
	_, err := c.s.cfg.Builder.Prune(stream.Context(), o, func(rec build.Record) {
		if failed == nil {
			failed = stream.Send(usageRecord(&rec))
		}
	})
	return errors.Join(err, failed)
}

func usageRecord(r *build.Record) *control.UsageRecord {
	u := &control.UsageRecord{
		ID: r.ID, Mutable: r.Mutable, InUse: r.InUse, Size: r.Size, CreatedAt: timestamppb.New(r.Created),
		UsageCount: int64(r.Uses), Description: r.Description, RecordType: r.Type, Shared: r.Shared, Parents: r.Parents,
	}
	if !r.LastUsed.IsZero() {
		u.LastUsedAt = timestamppb.New(r.LastUsed)
	}
	return u
}

// sendTime tells the client this machine's time: progress is shown in the client's.
func sendTime(stream grpc.ServerStream) error {
	if err := stream.SendHeader(timeHeader(time.Now())); err != nil {
		return fmt.Errorf("begin the stream: %w", err)
	}
	return nil
}
