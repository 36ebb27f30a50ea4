package image

import (
	"context"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/content"
)

// Hold says how large a blob is, and keeps it for a while: who asks for one is about to name it, or to read it.
func (f *Shelf) Hold(d digest.Digest) (int64, error) {
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d}
	if _, err := f.s.blobSize(desc); err != nil {
		return 0, err // Nobody fills the lease with digests of nothing.
	}
	f.lease().Hold(d)
	return f.s.blobSize(desc)
}

// File opens a blob that is stored, for reading at any place. Its digest is not verified; whoever fetches a blob does that.
// The plain tar of a layer that was built here is no file: an errdefs.ErrNotFound, see Stream.
func (f *Shelf) File(d digest.Digest) (*os.File, error) { return f.s.content.File(d) }

// Stream reads a blob that need not be stored from its start. Hold comes first.
func (f *Shelf) Stream(ctx context.Context, d digest.Digest) (io.ReadCloser, error) {
	return f.s.openBlob(ctx, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d})
}

// Upload is a blob on its way in. It is used by one goroutine at a time.
type Upload struct {
	f *Shelf
	w *content.Writer
	// lease keeps the blob until its uploader's manifest does.
	lease *content.Lease
}

// Upload begins to take in a blob whose digest is told at the end.
func (f *Shelf) Upload() (*Upload, error) {
	lease := f.s.content.Lease()
	w, err := f.s.content.Draft(lease)
	if err != nil {
		lease.Release()
		return nil, err
	}
	return &Upload{f: f, w: w, lease: lease}, nil
}

// Write appends to the blob.
func (u *Upload) Write(p []byte) (int, error) { return u.w.Write(p) }

// Offset is how much has come.
func (u *Upload) Offset() int64 { return u.w.Offset() }

// Commit ends the upload: the blob must have the digest, else the error is an errdefs.ErrDataLoss.
func (u *Upload) Commit(want digest.Digest) error {
	defer u.Close()
	if err := u.w.Expect(want); err != nil {
		return err
	}
	u.f.lease().Hold(want)
	if _, err := u.w.Commit(); err != nil {
		return content.ExplainFull(u.f.s.content.Dir(), err)
	}
	return nil
}

// Close gives the upload up, unless it has been committed.
func (u *Upload) Close() error {
	err := u.w.Close()
	u.lease.Release()
	return err
}
