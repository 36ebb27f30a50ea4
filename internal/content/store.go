package content

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/keyed"
)

const ingestDir = "ingest"

// Store is one OCI image layout. It is safe for concurrent use by one process.
type Store struct {
	dir string

	writing keyed.Turns[digest.Digest] // each blob has one writer at a time

	mu     sync.Mutex // guards what follows, and stands still during Sweep
	leased map[digest.Digest]int
	unsafe map[digest.Digest]struct{} // blobs that the disk may not have yet

	indexMu sync.Mutex // allows one writer of index.json at a time
	syncMu  sync.Mutex // allows one Sync at a time: each is to return when all that was unsafe is safe
}

// Open opens or creates the layout in dir, and drops what an interrupted operation left: drafts and partial blobs that
// are older than a day go. Call Recover next, once the names are known.
func Open(dir string) (*Store, error) {
	for _, d := range []string{filepath.Join(ocispec.ImageBlobsDir, "sha256"), ingestDir} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("create content store: %w", err)
		}
	}
	s := &Store{dir: dir, leased: map[digest.Digest]int{}, unsafe: map[digest.Digest]struct{}{}}
	if err := s.createLayout(); err != nil {
		return nil, err
	}
	if err := s.dropDrafts(); err != nil {
		return nil, err
	}
	if _, err := s.dropStale(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Store) createLayout() error {
	name := filepath.Join(s.dir, ocispec.ImageLayoutFile)
	raw, err := os.ReadFile(name)
	if err == nil {
		var l ocispec.ImageLayout
		if json.Unmarshal(raw, &l) == nil && l.Version == ocispec.ImageLayoutVersion {
			return nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("open content store: %w", err)
	}
	raw, err = json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return err
	}
	if err := s.replaceFile(ocispec.ImageLayoutFile, raw); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(s.dir, ocispec.ImageIndexFile)); err == nil {
		return nil
	}
	return s.writeIndex(&ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{}})
}

// Dir is the layout's directory.
func (s *Store) Dir() string { return s.dir }

func (s *Store) blobPath(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("blob %q: %w: %w", string(d), err, errdefs.ErrInvalidArgument)
	}
	return filepath.Join(s.dir, ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded()), nil
}

// Has says whether the blob is there, complete.
func (s *Store) Has(d digest.Digest) bool {
	_, err := s.Size(d)
	return err == nil
}

// Size is the blob's size in bytes; a blob that is not there is an errdefs.ErrNotFound.
func (s *Store) Size(d digest.Digest) (int64, error) {
	name, err := s.blobPath(d)
	if err != nil {
		return 0, err
	}
	fi, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("blob %s: %w", d, errdefs.ErrNotFound)
	}
	if err != nil {
		return 0, fmt.Errorf("blob %s: %w", d, err)
	}
	if !fi.Mode().IsRegular() {
		return 0, fmt.Errorf("blob %s is no regular file: %w", d, errdefs.ErrDataLoss)
	}
	return fi.Size(), nil
}

// Delete removes a blob; one that is not there is no error.
func (s *Store) Delete(d digest.Digest) error {
	name, err := s.blobPath(d)
	if err != nil {
		return err
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete blob %s: %w", d, err)
	}
	return nil
}

// Each calls fn for every complete blob, until it returns an error, which Each returns.
func (s *Store) Each(fn func(d digest.Digest, size int64) error) error {
	blobs := filepath.Join(s.dir, ocispec.ImageBlobsDir)
	algorithms, err := os.ReadDir(blobs)
	if err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	for _, a := range algorithms {
		entries, err := os.ReadDir(filepath.Join(blobs, a.Name()))
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		for _, e := range entries {
			d := digest.NewDigestFromEncoded(digest.Algorithm(a.Name()), e.Name())
			if d.Validate() != nil || !e.Type().IsRegular() {
				continue // Not ours.
			}
			fi, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return fmt.Errorf("list blobs: %w", err)
			}
			if err := fn(d, fi.Size()); err != nil {
				return err
			}
		}
	}
	return nil
}

// Partial is the number of bytes in partial blobs.
func (s *Store) Partial() (int64, error) {
	var total int64
	err := s.eachPartial(func(fi fs.FileInfo) error {
		total += fi.Size()
		return nil
	})
	return total, err
}

func (s *Store) eachPartial(fn func(fs.FileInfo) error) error {
	entries, err := os.ReadDir(filepath.Join(s.dir, ingestDir))
	if err != nil {
		return fmt.Errorf("list partial blobs: %w", err)
	}
	for _, e := range entries {
		fi, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("list partial blobs: %w", err)
		}
		if err := fn(fi); err != nil {
			return err
		}
	}
	return nil
}

// partialName is the name of a partial blob's file: "sha256-0123...".
func partialName(d digest.Digest) string {
	return d.Algorithm().String() + "-" + d.Encoded()
}

func partialDigest(name string) (digest.Digest, bool) {
	algorithm, hex, ok := strings.Cut(name, "-")
	d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), hex)
	return d, ok && d.Validate() == nil
}
