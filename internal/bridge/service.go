package bridge

import (
	"context"
	"errors"

	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// MaxMessage bounds gRPC messages, as BuildKit does: a definition of a large graph is some megabytes.
const MaxMessage = 16 << 20

// Service implements BuildKit's LLBBridge by handing each call to the bridge that it is for.
type Service struct {
	find func(ctx context.Context) (*Bridge, error)
}

// NewService makes a service; find tells the bridge that a call is for.
func NewService(find func(ctx context.Context) (*Bridge, error)) *Service {
	return &Service{find: find}
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { gateway.RegisterLLBBridgeServer(r, s) }

var _ gateway.LLBBridgeServer = (*Service)(nil)

// enter begins a call: its context ends with the build's as well. leave must be called.
func (s *Service) enter(ctx context.Context) (b *Bridge, inner context.Context, leave func(), err error) {
	if b, err = s.find(ctx); err != nil {
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

// reference enters the caller's build and finds a result of it; leave is to be called when there is no error.
func (s *Service) reference(ctx context.Context, id string) (b *Bridge, ref gwclient.Reference, in context.Context, leave func(), err error) {
	b, in, leave, err = s.enter(ctx)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	if ref, err = b.get(id); err != nil {
		leave()
		return nil, nil, nil, nil, err
	}
	return b, ref, in, leave, nil
}
