package buildkit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/moby/buildkit/client/buildid"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"

	"github.com/kistdev/kist/internal/build"
)

// bridgePatience is how long a call waits for its build: the client makes both on different streams.
const bridgePatience = 10 * time.Second

// bridges are the gateways of the builds whose frontend runs at the client. It implements the LLBBridge service by handing
// each call to the gateway of the build that the call's metadata names.
type bridges struct {
	mu      sync.Mutex // guards what follows
	byRef   map[string]*bridge
	changed chan struct{} // closed and replaced when a bridge is added
}

// bridge is the gateway of one build.
//
//	client                     daemon
//	  |-- Control.Solve -------->| Builder.Build calls run, which registers the bridge
//	  |-- Ping, Solve, ... ----->| calls against the builder's gateway client
//	  |-- Return(result) ------->| run returns the result, the builder exports it
type bridge struct {
	client   gwclient.Client
	inputs   map[string]*pb.Definition
	platform func() *gateway.PongResponse

	ctx    context.Context //nolint:containedctx // the build's: calls of the client end with it
	calls  sync.WaitGroup
	result chan returned

	mu   sync.Mutex // guards what follows
	refs map[string]gwclient.Reference
	over bool // no further call may begin
}

// returned is what a client's frontend ended with.
type returned struct {
	result *gwclient.Result
	err    error
}

// solveByClient runs a build whose frontend is at the client.
func (s *Server) solveByClient(ctx context.Context, req build.Request, status build.Status) (*build.Response, error) {
	return s.cfg.Builder.Build(ctx, req, func(ctx context.Context, c gwclient.Client) (*gwclient.Result, error) {
		ctx, cancel := context.WithCancel(ctx)
		b := &bridge{
			client: c, inputs: req.Inputs, platform: s.pong, ctx: ctx, result: make(chan returned, 1), refs: map[string]gwclient.Reference{},
		}
		s.bridges.add(req.Ref, b)
		defer b.end(cancel)
		defer s.bridges.remove(req.Ref)
		select {
		case r := <-b.result:
			return r.result, r.err
		case <-ctx.Done():
			return nil, fmt.Errorf("the client has gone: %w", context.Cause(ctx))
		}
	}, status)
}

// end turns calls away and waits for those under way.
func (b *bridge) end(cancel context.CancelFunc) {
	b.mu.Lock()
	b.over = true
	b.mu.Unlock()
	cancel()
	b.calls.Wait()
}

func (bs *bridges) add(ref string, b *bridge) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if bs.byRef == nil {
		bs.byRef = map[string]*bridge{}
	}
	bs.byRef[ref] = b
	if bs.changed != nil {
		close(bs.changed)
		bs.changed = nil
	}
}

func (bs *bridges) remove(ref string) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	delete(bs.byRef, ref)
}

// find waits for the build that a call is for.
func (bs *bridges) find(ctx context.Context) (*bridge, error) {
	ref := buildid.FromIncomingContext(ctx)
	if ref == "" {
		return nil, grpcerrors.WrapCode(errors.New("the call names no build"), codes.InvalidArgument)
	}
	ctx, cancel := context.WithTimeout(ctx, bridgePatience)
	defer cancel()
	for {
		bs.mu.Lock()
		b, ok := bs.byRef[ref]
		if bs.changed == nil {
			bs.changed = make(chan struct{})
		}
		wait := bs.changed
		bs.mu.Unlock()
		if ok {
			return b, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, grpcerrors.WrapCode(fmt.Errorf("no build %s wants a frontend", ref), codes.NotFound)
		}
	}
}

// enter begins a call: its context ends with the build's as well. leave must be called.
func (bs *bridges) enter(ctx context.Context) (b *bridge, inner context.Context, leave func(), err error) {
	if b, err = bs.find(ctx); err != nil {
		return nil, nil, nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return nil, nil, nil, grpcerrors.WrapCode(errors.New("the build has ended"), codes.Canceled)
	}
	b.calls.Add(1)
	inner, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(b.ctx, cancel)
	return b, inner, func() { stop(); cancel(); b.calls.Done() }, nil
}

// put registers a reference for the wire. Nil stays nil: an empty result.
func (b *bridge) put(ref gwclient.Reference) *gateway.Ref {
	if ref == nil {
		return &gateway.Ref{}
	}
	id := identity.NewID()
	b.mu.Lock()
	b.refs[id] = ref
	b.mu.Unlock()
	out := &gateway.Ref{Id: id}
	if d, ok := ref.(interface{ Definition() *pb.Definition }); ok {
		out.Def = d.Definition()
	}
	return out
}

// get finds a reference that was put.
func (b *bridge) get(id string) (gwclient.Reference, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ref, ok := b.refs[id]
	if !ok {
		return nil, grpcerrors.WrapCode(fmt.Errorf("no result %q in this build", id), codes.NotFound)
	}
	return ref, nil
}

// optional is get for an id that may be empty.
func (b *bridge) optional(id string) (gwclient.Reference, error) {
	if id == "" {
		return nil, nil
	}
	return b.get(id)
}
