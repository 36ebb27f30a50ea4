package buildkit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/moby/buildkit/client/buildid"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/util/grpcerrors"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/codes"

	"github.com/kistdev/kist/internal/bridge"
	"github.com/kistdev/kist/internal/build"
)

// bridgePatience is how long a call waits for its build: the client makes both on different streams.
const bridgePatience = 10 * time.Second

// bridges are the gateways of the builds whose frontend runs at the client, found by the build that a call's metadata names.
//
//	client                     daemon
//	  |-- Control.Solve -------->| Builder.Build calls solveByClient's function, which registers the bridge
//	  |-- Ping, Solve, ... ----->| calls against the builder's gateway client
//	  |-- Return(result) ------->| the function returns the result, the builder exports it
type bridges struct {
	mu      sync.Mutex // guards what follows
	byRef   map[string]*bridge.Bridge
	changed chan struct{} // closed and replaced when a bridge is added
}

// solveByClient runs a build whose frontend is at the client.
func (s *Server) solveByClient(ctx context.Context, req build.Request, status build.Status) (*build.Response, error) {
	return s.cfg.Builder.Build(ctx, req, func(ctx context.Context, c gwclient.Client) (*gwclient.Result, error) {
		b := bridge.New(ctx, bridge.Config{Gateway: c, Inputs: req.Inputs, Platforms: s.platforms})
		s.bridges.add(req.Ref, b)
		defer b.End()
		defer s.bridges.remove(req.Ref)
		res, err := b.Wait(ctx)
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("the client has gone: %w", err)
		}
		return res, err
	}, status)
}

func (s *Server) platforms() []ocispec.Platform {
	if s.cfg.Platforms == nil {
		return nil
	}
	return s.cfg.Platforms()
}

func (bs *bridges) add(ref string, b *bridge.Bridge) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if bs.byRef == nil {
		bs.byRef = map[string]*bridge.Bridge{}
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
func (bs *bridges) find(ctx context.Context) (*bridge.Bridge, error) {
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
