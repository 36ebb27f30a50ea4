package buildkit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// storeHeader names the content store that a call is for, where a client has several: "local:DIR" for caches, "oci:NAME"
// for contexts.
const storeHeader = "buildkit-attachable-store-id"

// chunk is how much of a blob goes into one message.
const chunk = 1 << 20

// storeOf is the client's content stores and the context for calls to one of them.
func (c *clientSession) storeOf(ctx context.Context, store string) (contentapi.ContentClient, context.Context) {
	return contentapi.NewContentClient(c.caller.Conn()), metadata.NewOutgoingContext(c.caller.Context(ctx), metadata.Pairs(storeHeader, store))
}

// errNoIndex answers for index.json: BuildKit's clients read and write it themselves.
func errNoIndex(store string) error {
	return fmt.Errorf("index of the client's content store %s: %w", store, errdefs.ErrNotImplemented)
}

// Content implements build.Session.
func (c *clientSession) Content(ctx context.Context, store, blob string) (io.ReadCloser, error) {
	if blob == "" {
		return nil, errNoIndex(store)
	}
	client, ctx := c.storeOf(ctx, store)
	ctx, cancel := context.WithCancel(ctx)
	stream, err := client.Read(ctx, &contentapi.ReadContentRequest{Digest: blob})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("read %s of the client: %w", blob, err)
	}
	first, err := stream.Recv() // Whether there is such a blob shows here.
	if err != nil && !errors.Is(err, io.EOF) {
		cancel()
		if code := grpcerrors.Code(err); code == codes.NotFound || code == codes.Unimplemented {
			return nil, fmt.Errorf("the client has no %s in its store %s: %w", blob, store, errdefs.ErrNotFound)
		}
		return nil, fmt.Errorf("read %s of the client: %w", blob, err)
	}
	return &blobReader{stream: stream, rest: first.GetData(), err: err, cancel: cancel}, nil
}

// blobReader reads the messages of a blob.
type blobReader struct {
	stream contentapi.Content_ReadClient
	rest   []byte
	err    error
	cancel context.CancelFunc
}

// Read implements io.Reader.
func (b *blobReader) Read(p []byte) (int, error) {
	for len(b.rest) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		var m *contentapi.ReadContentResponse
		if m, b.err = b.stream.Recv(); b.err == nil {
			b.rest = m.GetData()
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// Close implements io.Closer.
func (b *blobReader) Close() error {
	b.cancel()
	return nil
}

// PutContent implements build.Session. A blob that the client has is not sent.
func (c *clientSession) PutContent(ctx context.Context, store, blob string, size int64, r io.Reader) error {
	if blob == "" {
		return errNoIndex(store)
	}
	client, ctx := c.storeOf(ctx, store)
	if _, err := client.Info(ctx, &contentapi.InfoRequest{Digest: blob}); err == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Write(ctx)
	if err != nil {
		return fmt.Errorf("write %s to the client: %w", blob, err)
	}
	w := &blobWriter{stream: stream, ref: "kist-" + identity.NewID(), total: size, digest: blob}
	err = w.send(r)
	if grpcerrors.Code(err) == codes.AlreadyExists {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("write %s to the client: %w", blob, err)
	}
	return nil
}

// blobWriter writes a blob in messages, each one answered.
type blobWriter struct {
	stream        contentapi.Content_WriteClient
	ref, digest   string
	total, offset int64
}

func (w *blobWriter) send(r io.Reader) error {
	buf := make([]byte, chunk)
	for {
		n, err := io.ReadFull(r, buf)
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return err
		}
		if n > 0 {
			if err := w.call(contentapi.WriteAction_WRITE, buf[:n]); err != nil {
				return err
			}
		}
		if last {
			break
		}
	}
	if w.offset != w.total {
		return fmt.Errorf("%d bytes instead of %d: %w", w.offset, w.total, io.ErrUnexpectedEOF)
	}
	if err := w.call(contentapi.WriteAction_COMMIT, nil); err != nil {
		return err
	}
	return w.stream.CloseSend()
}

func (w *blobWriter) call(action contentapi.WriteAction, data []byte) error {
	err := w.stream.Send(&contentapi.WriteContentRequest{
		Action: action, Ref: w.ref, Total: w.total, Expected: w.digest, Offset: w.offset, Data: data,
	})
	if err != nil && !errors.Is(err, io.EOF) { // With io.EOF the cause is what is received.
		return err
	}
	m, err := w.stream.Recv()
	if err != nil {
		return err
	}
	if w.offset += int64(len(data)); m.Offset != w.offset && action == contentapi.WriteAction_WRITE {
		return fmt.Errorf("the client holds %d bytes instead of %d: %w", m.Offset, w.offset, errdefs.ErrDataLoss)
	}
	return nil
}

// blobs is what the protocol reads of the content store, for clients that look at what was built.
type blobs interface {
	// Open opens a blob and tells its size; one that is not there is an errdefs.ErrNotFound.
	Open(ctx context.Context, blob digest.Digest) (io.ReadCloser, int64, error)
}

// content serves blobs, read only.
type content struct {
	contentapi.UnimplementedContentServer
	blobs blobs // may be nil
	jobs  *jobs // whose records are blobs, too
}

// Info implements the content service.
func (c *content) Info(ctx context.Context, r *contentapi.InfoRequest) (*contentapi.InfoResponse, error) {
	b, size, err := c.open(ctx, r.Digest)
	if err != nil {
		return nil, err
	}
	return &contentapi.InfoResponse{Info: &contentapi.Info{Digest: r.Digest, Size: size}}, b.Close()
}

func (c *content) open(ctx context.Context, blob string) (io.ReadCloser, int64, error) {
	d, err := digest.Parse(blob)
	if err != nil {
		return nil, 0, grpcerrors.WrapCode(err, codes.InvalidArgument)
	}
	if raw := c.jobs.blob(d); raw != nil {
		return io.NopCloser(bytes.NewReader(raw)), int64(len(raw)), nil
	}
	if c.blobs == nil {
		return nil, 0, fmt.Errorf("blob %s: %w", d, errdefs.ErrNotFound)
	}
	return c.blobs.Open(ctx, d)
}

// Read implements the content service.
func (c *content) Read(r *contentapi.ReadContentRequest, stream contentapi.Content_ReadServer) error {
	b, size, err := c.open(stream.Context(), r.Digest)
	if err != nil {
		return err
	}
	defer b.Close()
	if r.Offset < 0 || r.Offset > size || r.Size < 0 {
		return grpcerrors.WrapCode(errors.New("the blob has no such part"), codes.OutOfRange)
	}
	if _, err := io.CopyN(io.Discard, b, r.Offset); err != nil {
		return err
	}
	left := size - r.Offset
	if r.Size > 0 {
		left = min(left, r.Size)
	}
	buf := make([]byte, chunk)
	for offset := r.Offset; left > 0; {
		n, err := io.ReadFull(b, buf[:min(left, chunk)])
		if err != nil {
			return fmt.Errorf("read %s: %w", r.Digest, err)
		}
		if err := stream.Send(&contentapi.ReadContentResponse{Offset: offset, Data: buf[:n]}); err != nil {
			return err
		}
		offset += int64(n)
		left -= int64(n)
	}
	return nil
}
