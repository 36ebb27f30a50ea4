package layer

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// unpacked is a layer that is there.
type unpacked struct {
	name   string // of its directory
	synced bool   // guarded by Store.mu
	note   string // what l/NAME/n holds; guarded by Store.mu
	layerMeta
}

// layerMeta is what l/NAME/m holds.
type layerMeta struct {
	DiffID digest.Digest `json:"diffID"`
	// Size is the bytes that it occupies on disk.
	Size int64 `json:"size"`
	// Empty layers change nothing and are left out of the stack.
	Empty bool `json:"empty,omitempty"`
	// Opaque layers hide everything below them.
	Opaque bool `json:"opaque,omitempty"`
	// Root is there if the tar had an entry for the root directory.
	Root *rootMeta `json:"root,omitempty"`
	// Tar is how long the tar is that WriteTar makes; 0 for a layer that was not made here, of whose tar only the digest is known.
	Tar int64 `json:"tar,omitempty"`
	// Plain says that it was made here and hides nothing below it.
	Plain bool `json:"plain,omitempty"`
	// Linked says that a file in it has several names; it is told of layers that were made here only.
	Linked bool `json:"linked,omitempty"`
	// Under is the layer that has what this one lacks; empty if this one is whole.
	Under digest.Digest `json:"under,omitempty"`
	// Created is when it was made here, in nanoseconds since 1970.
	Created int64 `json:"created,omitempty"`
	// Boot is the boot of the machine that unpacked it: an unsynced layer is whole only until the next one.
	Boot string `json:"boot"`
}

type rootMeta struct {
	Mode uint32 `json:"mode"`
	UID  int    `json:"uid"`
	GID  int    `json:"gid"`
}

func randomName() string { return strings.ToLower(rand.Text()) }

var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// shortNames are the names that a layer may have, the preferred one first. Short ones could be made to collide by
// somebody who builds images for that, so a name proves nothing: what counts is the digest in the layer's metadata.
func shortNames(id digest.Digest) []string {
	long := strings.ToLower(encoding.EncodeToString([]byte(digest.SHA256.FromString(string(id)).Encoded()[:40])))
	return []string{long[:12], long[12:24], long[24:48], long}
}

// recoverLayers reads the layers that are there. One without readable metadata, or one that the machine's crash may have
// hit, is thrown away.
func (s *Store) recoverLayers() error {
	entries, err := os.ReadDir(filepath.Join(s.dir, "l"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		l, err := s.readLayer(e.Name())
		if err != nil {
			return err
		}
		if l == nil || !l.synced && l.Boot != s.boot || s.layers[l.DiffID] != nil {
			if err := s.discard("l/" + e.Name()); err != nil {
				return err
			}
			continue
		}
		s.layers[l.DiffID], s.names[l.name] = l, l
	}
	return s.recoverOver()
}

// recoverOver throws away layers whose other part is lost.
func (s *Store) recoverOver() error {
	for id, l := range s.layers {
		if l.Under == "" || s.layers[l.Under] != nil {
			continue
		}
		if err := s.discard("l/" + l.name); err != nil {
			return err
		}
		delete(s.layers, id)
		delete(s.names, l.name)
	}
	return nil
}

// readLayer reads one layer's metadata; nil if there is none that makes sense.
func (s *Store) readLayer(name string) (*unpacked, error) {
	l := &unpacked{name: name}
	dir := filepath.Join(s.dir, "l", name)
	data, err := os.ReadFile(filepath.Join(dir, "m"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(data, &l.layerMeta) != nil || l.DiffID.Validate() != nil {
		return nil, nil //nolint:nilerr // not a layer
	}
	_, err = os.Lstat(filepath.Join(dir, "s"))
	l.synced = err == nil
	if note, err := os.ReadFile(filepath.Join(dir, "n")); err == nil {
		l.note = string(note)
	}
	return l, nil
}

// writeMeta writes v as the new file name in the store, without syncing it.
func (s *Store) writeMeta(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.create(name, data)
}

// create writes a new file in the store, without syncing it.
func (s *Store) create(name string, data []byte) error {
	fd, err := unix.Openat(s.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// Has says whether the layer is unpacked.
func (s *Store) Has(diffID digest.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.has(diffID)
}

// has is Has with Store.mu held.
func (s *Store) has(diffID digest.Digest) bool { return diffID == Empty || s.layers[diffID] != nil }

// Size is the number of bytes that the unpacked layer occupies, with what it lies over.
func (s *Store) Size(diffID digest.Digest) (int64, error) {
	if diffID == Empty {
		return 0, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.layers[diffID]
	if l == nil {
		return 0, errNoLayer(diffID)
	}
	return s.size(l), nil
}

func errNoLayer(diffID digest.Digest) error {
	return fmt.Errorf("layer %s is not unpacked: %w", diffID, errdefs.ErrNotFound)
}
