package content

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/fault"
)

// Open reads a blob and verifies it on the way: a reader that meets the end has read what the digest says, else it
// gets an errdefs.ErrDataLoss fault instead of the end. A blob that is not there is an errdefs.ErrNotFound.
func (s *Store) Open(d digest.Digest) (io.ReadCloser, error) {
	f, err := s.File(d)
	if err != nil {
		return nil, err
	}
	return &verifier{file: f, hash: d.Algorithm().Hash(), want: d}, nil
}

// Bytes reads a small blob whole, verified; one of more than limit bytes is an errdefs.ErrInvalidArgument.
func (s *Store) Bytes(d digest.Digest, limit int64) ([]byte, error) {
	r, err := s.Open(d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", d, err)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("blob %s has more than %d bytes: %w", d, limit, errdefs.ErrInvalidArgument)
	}
	return raw, nil
}

type verifier struct {
	file *os.File
	hash hash.Hash
	want digest.Digest
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.file.Read(p)
	v.hash.Write(p[:n])
	if err != io.EOF {
		return n, err
	}
	if got := digest.NewDigest(v.want.Algorithm(), v.hash); got != v.want {
		return n, &fault.Error{
			Code:  "blob-damaged",
			What:  "blob " + v.want.String() + " on the disk is damaged",
			Cause: "its bytes have the digest " + got.String(),
			Try:   "remove the images that use it and pull them again",
			Class: errdefs.ErrDataLoss,
		}
	}
	return n, io.EOF
}

func (v *verifier) Close() error { return v.file.Close() }

// File opens a blob for reading at any place. Nothing verifies what is read.
func (s *Store) File(d digest.Digest) (*os.File, error) {
	name, err := s.blobPath(d)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s: %w", d, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d, err)
	}
	return f, nil
}
