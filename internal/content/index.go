package content

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/fault"
)

// Index reads index.json.
func (s *Store) Index() (*ocispec.Index, error) {
	raw, err := os.ReadFile(filepath.Join(s.dir, ocispec.ImageIndexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return &ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	index := new(ocispec.Index)
	if err := json.Unmarshal(raw, index); err != nil {
		return nil, &fault.Error{
			Code: "store-damaged", What: "the list of images " + filepath.Join(s.dir, ocispec.ImageIndexFile) + " is damaged", Cause: err.Error(),
			Try: "kist doctor --fix moves it away; then load or pull the images again", Class: errdefs.ErrDataLoss, Err: err,
		}
	}
	return index, nil
}

// SetIndex replaces index.json: when it returns, the new one survives a crash, and at no time is there a half one.
func (s *Store) SetIndex(index *ocispec.Index) error {
	s.indexMu.Lock()
	defer s.indexMu.Unlock()
	return s.writeIndex(index)
}

func (s *Store) writeIndex(index *ocispec.Index) error {
	raw, err := json.Marshal(index)
	if err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	return s.replaceFile(ocispec.ImageIndexFile, raw)
}

// replaceFile writes a file beside the old one and renames it into place, durably.
func (s *Store) replaceFile(name string, raw []byte) error {
	if err := s.tryReplace(name, raw); err != nil {
		return s.explain(fmt.Errorf("write %s: %w", name, err))
	}
	return nil
}

func (s *Store) tryReplace(name string, raw []byte) error {
	f, err := os.CreateTemp(filepath.Join(s.dir, ingestDir), "draft-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // Fails when the rename succeeded.
	defer f.Close()
	if _, err := f.Write(raw); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(s.dir, name)); err != nil {
		return err
	}
	dir, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
