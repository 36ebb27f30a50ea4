package buildkit

import (
	"context"
	"errors"
	"slices"

	control "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/opencontainers/go-digest"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/kistdev/kist/internal/build"
)

// record describes a build for `buildx history`.
func (j *job) record() *control.BuildHistoryRecord {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := &control.BuildHistoryRecord{
		Ref: j.request.Ref, Frontend: j.request.Frontend, FrontendAttrs: shown(j.request.FrontendAttrs), Exporters: j.request.Exporters,
		CreatedAt: timestamppb.New(j.began), Pinned: j.pinned,
		NumCachedSteps: j.counts.cached, NumTotalSteps: j.counts.total, NumCompletedSteps: j.counts.completed, NumWarnings: j.counts.warnings,
	}
	if j.ended.IsZero() {
		return r
	}
	r.CompletedAt = timestamppb.New(j.ended)
	if j.resp != nil {
		r.ExporterResponse = j.resp.Exporter
		addProvenance(r, j.resp.Provenance)
	}
	if j.err != nil {
		r.Error = rpcStatus(j.err)
	}
	return r
}

// predicateType is where clients look for what kind of statement a blob is.
const predicateType = "in-toto.io/predicate-type"

// addProvenance names the blobs that say how the results came to be.
func addProvenance(r *control.BuildHistoryRecord, all map[string]build.Provenance) {
	for platform, p := range all {
		info := &control.BuildResultInfo{Attestations: []*control.Descriptor{{
			MediaType: "application/vnd.in-toto+json", Digest: digest.FromBytes(p.Predicate).String(), Size: int64(len(p.Predicate)),
			Annotations: map[string]string{predicateType: p.PredicateType},
		}}}
		if platform == "" {
			r.Result = info
			continue
		}
		if r.Results == nil {
			r.Results = make(map[string]*control.BuildResultInfo)
		}
		r.Results[platform] = info
	}
}

// blob is what a record of a build names; nil if none does.
func (js *jobs) blob(d digest.Digest) []byte {
	js.mu.Lock()
	order := slices.Clone(js.order)
	js.mu.Unlock()
	for _, j := range order {
		j.mu.Lock()
		resp := j.resp
		j.mu.Unlock()
		if resp == nil {
			continue
		}
		for _, p := range resp.Provenance {
			if digest.FromBytes(p.Predicate) == d {
				return p.Predicate
			}
		}
	}
	return nil
}

// shown are a build's options without the values of build arguments: people put secrets into them.
func shown(attrs map[string]string) map[string]string {
	out := make(map[string]string, len(attrs))
	for k, v := range attrs {
		out[k] = v
	}
	return out
}

func rpcStatus(err error) *rpc.Status {
	st, ok := status.FromError(grpcerrors.ToGRPC(context.Background(), err))
	if !ok {
		return &rpc.Status{Code: int32(codes.Unknown), Message: err.Error()}
	}
	p := st.Proto()
	return &rpc.Status{Code: p.Code, Message: p.Message}
}

// all returns the builds that are known, oldest first, and what to wait for until that changes.
func (js *jobs) all(ref string) ([]*job, <-chan struct{}) {
	js.mu.Lock()
	defer js.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(js.order), func(j *job) bool { return ref != "" && j.request.Ref != ref })
	return list, js.watch()
}

// ListenBuildHistory implements Control: what is known, and with EarlyExit unset also what comes.
func (c *controller) ListenBuildHistory(r *control.BuildHistoryRequest, stream control.Control_ListenBuildHistoryServer) error {
	if err := sendTime(stream); err != nil {
		return err
	}
	type seen struct{ ended, pinned bool }
	told := map[*job]seen{}
	for first := true; ; first = false {
		list, changed := c.s.jobs.all(r.Ref)
		if limit := int(r.Limit); first && limit > 0 && len(list) > limit {
			list = list[len(list)-limit:]
		}
		present := make(map[*job]bool, len(list))
		for _, j := range list {
			present[j] = true
			now := seen{j.hasEnded(), j.isPinned()}
			if before, ok := told[j]; ok && before == now || !ok && now.ended && r.ActiveOnly {
				continue
			}
			kind := control.BuildHistoryEventType_STARTED
			if now.ended {
				kind = control.BuildHistoryEventType_COMPLETE
			}
			if err := stream.Send(&control.BuildHistoryEvent{Type: kind, Record: j.record()}); err != nil {
				return err
			}
			told[j] = now
		}
		for j := range told {
			if present[j] {
				continue
			}
			delete(told, j)
			gone := &control.BuildHistoryEvent{Type: control.BuildHistoryEventType_DELETED, Record: &control.BuildHistoryRecord{Ref: j.request.Ref}}
			if err := stream.Send(gone); err != nil {
				return err
			}
		}
		if r.EarlyExit {
			return nil
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// UpdateBuildHistory implements Control.
func (c *controller) UpdateBuildHistory(_ context.Context, r *control.UpdateBuildHistoryRequest) (*control.UpdateBuildHistoryResponse, error) {
	js := &c.s.jobs
	js.mu.Lock()
	defer js.mu.Unlock()
	j, ok := js.byRef[r.Ref]
	if !ok {
		return nil, grpcerrors.WrapCode(errors.New("no build with the ref "+r.Ref), codes.NotFound)
	}
	switch {
	case r.Delete && !j.hasEnded():
		return nil, grpcerrors.WrapCode(errors.New("the build is under way"), codes.FailedPrecondition)
	case r.Delete:
		delete(js.byRef, r.Ref)
		js.order = slices.DeleteFunc(js.order, func(other *job) bool { return other == j })
	case !r.Finalize:
		j.mu.Lock()
		j.pinned = r.Pinned
		j.mu.Unlock()
	}
	js.notify()
	return &control.UpdateBuildHistoryResponse{}, nil
}
