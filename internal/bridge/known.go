package bridge

import (
	"errors"

	"github.com/moby/buildkit/identity"
	bkerrdefs "github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/util/grpcerrors"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

// An error crosses the wire twice when a step fails: it answers the frontend's call, and the frontend returns it. On the way
// it loses all but its text and what BuildKit knows to write down. So it carries a mark among its details, which frontends
// hand on as they do all details that they do not know, and by which the error itself is found again.

// markURL is the type of the detail that is a mark.
const markURL = "kist.dev/bridge.Mark"

// marked is an error with its mark. It is BuildKit's to turn the rest into a status.
type marked struct {
	error
	mark string
}

// Unwrap gives the error.
func (m *marked) Unwrap() error { return m.error }

// GRPCStatus implements what grpcerrors asks for: the status that the error would have had, with the mark.
func (m *marked) GRPCStatus() *status.Status {
	st, ok := grpcerrors.AsGRPCStatus(m.error)
	if !ok || st == nil {
		st = status.New(grpcerrors.Code(m.error), m.Error())
	}
	p := st.Proto()
	p.Details = append(p.Details, &anypb.Any{TypeUrl: markURL, Value: []byte(m.mark)})
	return status.FromProto(p)
}

// tell remembers an error that a frontend is told.
func (b *Bridge) tell(err error) error {
	if err == nil {
		return nil
	}
	m := &marked{error: err, mark: identity.NewID()}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.errors) >= maxErrors {
		return err
	}
	b.errors[m.mark] = err
	return m
}

// failure is the error that a frontend returns: the one that it was told, if it is that, in the frontend's words.
func (b *Bridge) failure(st *rpc.Status) error {
	decoded := grpcerrors.FromGRPC(status.ErrorProto(st))
	for _, d := range st.GetDetails() {
		if d.GetTypeUrl() != markURL {
			continue
		}
		b.mu.Lock()
		told, ok := b.errors[string(d.GetValue())]
		b.mu.Unlock()
		if !ok {
			continue
		}
		var err error = &retold{text: st.Message, err: told}
		if len(bkerrdefs.Sources(told)) == 0 {
			for _, s := range bkerrdefs.Sources(decoded) {
				err = bkerrdefs.WithSource(err, s)
			}
		}
		return err
	}
	if decoded == nil {
		decoded = errors.New("the frontend failed without a reason")
	}
	return decoded
}

// retold is an error in a frontend's words.
type retold struct {
	text string
	err  error
}

func (r *retold) Error() string { return r.text }

// Unwrap gives the error that the frontend was told.
func (r *retold) Unwrap() error { return r.err }
