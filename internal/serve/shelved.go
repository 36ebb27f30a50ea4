package serve

import (
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/image"
)

// shelved is an image.Shelf with its results as the interfaces that this package reads.
type shelved struct{ *image.Shelf }

// File opens a stored blob.
func (s shelved) File(d digest.Digest) (file, error) { return s.Shelf.File(d) }

// Upload begins to take a blob in.
func (s shelved) Upload() (upload, error) { return s.Shelf.Upload() }
