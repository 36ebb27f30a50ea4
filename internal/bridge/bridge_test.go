package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client/llb"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/kistdev/kist/internal/testbed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// play is a gateway whose steps all fail in one way, or make one file.
type play struct {
	gwclient.Client
	fail error
}

func (p play) Solve(context.Context, gwclient.SolveRequest) (*gwclient.Result, error) {
	res := gwclient.NewResult()
	res.SetRef(ref{fail: p.fail})
	return res, nil
}

type ref struct {
	gwclient.Reference
	fail error
}

func (r ref) ReadFile(_ context.Context, q gwclient.ReadRequest) ([]byte, error) {
	return []byte("content of " + q.Filename), r.fail
}

func (ref) ToState() (llb.State, error) { return llb.Scratch(), nil }

// connect serves a bridge to a client in this process.
func connect(t *testing.T, g gwclient.Client) (*Bridge, gateway.LLBBridgeClient, func() error) {
	t.Helper()
	near, far := testbed.SocketPair(t)
	b := New(t.Context(), Config{Gateway: g, Inputs: map[string]*pb.Definition{"one": {}}})
	served := make(chan error, 1)
	go func() { served <- b.ServeConn(t.Context(), near) }()
	c, err := grpc.NewClient("passthrough:frontend",
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return far, nil }),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUnaryInterceptor(grpcerrors.UnaryClientInterceptor),
	)
	if err != nil {
		t.Fatal(err)
	}
	end := func() error {
		if err := c.Close(); err != nil {
			return err
		}
		err := <-served
		b.End()
		return err
	}
	return b, gateway.NewLLBBridgeClient(c), end
}

// TestFrontend is a frontend's whole life: it asks, reads, and returns.
func TestFrontend(t *testing.T) {
	b, c, end := connect(t, play{})
	ctx := t.Context()
	pong, err := c.Ping(ctx, &gateway.PingRequest{})
	if err != nil || len(pong.LLBCaps) == 0 || len(pong.Workers) != 1 {
		t.Errorf("%v, %v", pong, err)
	}
	if in, err := c.Inputs(ctx, &gateway.InputsRequest{}); err != nil || in.Definitions["one"] == nil {
		t.Errorf("inputs %v, %v", in, err)
	}
	s, err := c.Solve(ctx, &gateway.SolveRequest{Definition: &pb.Definition{}, AllowResultReturn: true, AllowResultArrayRef: true})
	if err != nil {
		t.Fatal(err)
	}
	id := s.Result.GetRef().Id
	if f, err := c.ReadFile(ctx, &gateway.ReadFileRequest{Ref: id, FilePath: "x"}); err != nil || string(f.Data) != "content of x" {
		t.Errorf("%v, %v", f, err)
	}
	if _, err := c.ReadFile(ctx, &gateway.ReadFileRequest{Ref: "guessed", FilePath: "x"}); grpcerrors.Code(err) != codes.NotFound {
		t.Errorf("a guessed name: %v", err)
	}
	if _, err := c.NewContainer(ctx, &gateway.NewContainerRequest{}); grpcerrors.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "beside a build") {
		t.Errorf("a container: %v", err)
	}
	if _, ok, _ := b.Returned(); ok {
		t.Error("returned before it has")
	}
	result := &gateway.Result{Result: &gateway.Result_Ref{Ref: &gateway.Ref{Id: id}}}
	if _, err := c.Return(ctx, &gateway.ReturnRequest{Result: result}); err != nil {
		t.Error(err)
	}
	if _, err := c.Return(ctx, &gateway.ReturnRequest{Result: result}); grpcerrors.Code(err) != codes.FailedPrecondition {
		t.Errorf("a second result: %v", err)
	}
	<-b.Done()
	if res, err := b.Wait(ctx); err != nil || res.Ref == nil {
		t.Errorf("%v, %v", res, err)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

// TestErrorComesBack: an error that the frontend was told and returns is the same error here.
func TestErrorComesBack(t *testing.T) {
	told := errors.New("no such file")
	b, c, end := connect(t, play{fail: fmt.Errorf("read: %w", told)})
	s, err := c.Solve(t.Context(), &gateway.SolveRequest{Definition: &pb.Definition{}, AllowResultReturn: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.ReadFile(t.Context(), &gateway.ReadFileRequest{Ref: s.Result.GetRefDeprecated(), FilePath: "x"})
	if err == nil {
		t.Fatal("no error")
	}
	st, _ := status.FromError(grpcerrors.ToGRPC(t.Context(), fmt.Errorf("line 3: %w", err)))
	if _, err := c.Return(t.Context(), &gateway.ReturnRequest{Error: st.Proto()}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Wait(t.Context()); !errors.Is(err, told) || !strings.HasSuffix(err.Error(), "read: no such file") {
		t.Errorf("%v", err)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	invented := status.New(codes.NotFound, "not here").Proto()
	if err := New(t.Context(), Config{}).failure(invented); err == nil || errors.Is(err, told) || !strings.Contains(err.Error(), "not here") {
		t.Errorf("%v", err)
	}
}

func TestGarbage(t *testing.T) {
	for said, want := range map[string]string{"hello there": "hello there", "": "", "PRI * HTTP/1.0\r\n\r\n": "PRI * HTTP/1.0\r\n\r\n"} {
		near, far := testbed.SocketPair(t)
		b := New(t.Context(), Config{Gateway: play{}})
		if _, err := io.WriteString(far, said); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(50*time.Millisecond, func() { _ = far.Close() })
		err := b.ServeConn(t.Context(), near)
		b.End()
		var garbage *GarbageError
		if errors.As(err, &garbage) != (want != "") || garbage != nil && string(garbage.Said) != want {
			t.Errorf("%q: %v", said, err)
		}
	}
}

// TestTooMany: a frontend does not fill the memory.
func TestTooMany(t *testing.T) {
	b := New(t.Context(), Config{})
	for range maxRefs {
		if _, err := b.put(ref{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.put(ref{}); grpcerrors.Code(err) != codes.ResourceExhausted {
		t.Errorf("%v", err)
	}
	for range maxErrors {
		_ = b.tell(errors.New("x"))
	}
	if err := b.tell(io.EOF); !errors.Is(err, io.EOF) || len(b.errors) > maxErrors {
		t.Errorf("%v, %d", err, len(b.errors))
	}
}

// TestEnd: calls end with the build, and none begins after it.
func TestEnd(t *testing.T) {
	b := New(t.Context(), Config{Gateway: play{}})
	b.End()
	s := NewService(func(context.Context) (*Bridge, error) { return b, nil })
	if _, err := s.Ping(t.Context(), &gateway.PingRequest{}); grpcerrors.Code(err) != codes.Canceled {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(io.EOF)
	if _, err := b.Wait(ctx); !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
}
