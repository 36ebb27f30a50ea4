// Package bridge lets frontends that run elsewhere, at the client or in a container, ask for parts of a build: it serves
// BuildKit's LLBBridge over gRPC on top of a gateway of the builder's.
//
//	frontend                  Service                    gateway
//	  |-- Ping --------------->|                            |
//	  |-- ResolveImageConfig ->|-- the Bridge of the call ->| what an image is
//	  |-- Solve(graph) ------->|--------------------------->| a reference, which gets a name for the wire
//	  |-- ReadFile(name) ----->|--------------------------->| the reference is made and read
//	  |-- Return(name) ------->| Bridge.Wait returns        |
//
// What a frontend says is hostile input: names that it was not given lead nowhere, and what it may do is the gateway's to
// decide.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"sync"

	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/codes"
)

// Config is what a Bridge stands on.
type Config struct {
	// Gateway is the build's.
	Gateway gwclient.Client
	// Inputs are the named graphs that came with the request.
	Inputs map[string]*pb.Definition
	// Platforms that can be built for, the machine's own first.
	Platforms func() []ocispec.Platform
}

// Bridge is the gateway of one build, or of one frontend in it, for the wire.
type Bridge struct {
	cfg    Config
	ctx    context.Context //nolint:containedctx // the build's: calls of the frontend end with it
	cancel context.CancelFunc
	calls  sync.WaitGroup
	done   chan struct{} // closed when there is a result

	mu     sync.Mutex // guards what follows
	refs   map[string]gwclient.Reference
	errors map[string]error // that the frontend was told, by their marks
	over   bool             // no further call may begin
	result *returned
}

// returned is what a frontend ended with.
type returned struct {
	result *gwclient.Result
	err    error
}

// maxRefs bounds the results that one frontend holds, maxErrors the failures that are remembered for it.
const (
	maxRefs   = 100_000
	maxErrors = 1000
)

// New makes a bridge. It serves until ctx ends, or End is called.
func New(ctx context.Context, c Config) *Bridge {
	b := &Bridge{cfg: c, done: make(chan struct{}), refs: map[string]gwclient.Reference{}, errors: map[string]error{}}
	b.ctx, b.cancel = context.WithCancel(ctx)
	return b
}

// Done is closed when the frontend has returned.
func (b *Bridge) Done() <-chan struct{} { return b.done }

// Wait waits for what the frontend returns. When ctx ends first, it returns why.
func (b *Bridge) Wait(ctx context.Context) (*gwclient.Result, error) {
	select {
	case <-b.done:
	case <-ctx.Done():
	}
	if res, ok, err := b.Returned(); ok {
		return res, err
	}
	return nil, context.Cause(ctx)
}

// Returned is what the frontend has returned; ok is false if it has not.
func (b *Bridge) Returned() (res *gwclient.Result, ok bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.result == nil {
		return nil, false, nil
	}
	return b.result.result, true, b.result.err
}

// End turns calls away and waits for those under way.
func (b *Bridge) End() {
	b.mu.Lock()
	b.over = true
	b.mu.Unlock()
	b.cancel()
	b.calls.Wait()
}

// put registers a reference for the wire. Nil stays nil: an empty result.
func (b *Bridge) put(ref gwclient.Reference) (*gateway.Ref, error) {
	if ref == nil {
		return &gateway.Ref{}, nil
	}
	id := identity.NewID()
	b.mu.Lock()
	full := len(b.refs) >= maxRefs
	if !full {
		b.refs[id] = ref
	}
	b.mu.Unlock()
	if full {
		return nil, grpcerrors.WrapCode(fmt.Errorf("the frontend has asked for more than %d results", maxRefs), codes.ResourceExhausted)
	}
	out := &gateway.Ref{Id: id}
	if d, ok := ref.(interface{ Definition() *pb.Definition }); ok {
		out.Def = d.Definition()
	}
	return out, nil
}

// get finds a reference that was put.
func (b *Bridge) get(id string) (gwclient.Reference, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ref, ok := b.refs[id]
	if !ok {
		return nil, grpcerrors.WrapCode(fmt.Errorf("no result %q in this build", id), codes.NotFound)
	}
	return ref, nil
}

// optional is get for an id that may be empty.
func (b *Bridge) optional(id string) (gwclient.Reference, error) {
	if id == "" {
		return nil, nil
	}
	return b.get(id)
}

// conclude takes what the frontend ended with, once.
func (b *Bridge) conclude(r returned) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.result != nil {
		return grpcerrors.WrapCode(errors.New("the build has its result already"), codes.FailedPrecondition)
	}
	b.result = &r
	close(b.done)
	return nil
}
