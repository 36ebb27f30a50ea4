package layer

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/sys"
)

// maxStack is how many layers can be stacked: overlayfs takes 500 (OVL_MAX_STACK), one of which may be the mount points.
const maxStack = 499

// PrepareOptions for a writable layer.
type PrepareOptions struct {
	// Volatile: see sys.Overlay.
	Volatile bool
	// ReadOnly makes a root without a writable layer.
	ReadOnly bool
	// Bare leaves out the mount points that a container needs: for a tree that is only mounted into one.
	Bare bool
	// Many files may be made in the writable layer, so that it is worth looking for a place where that is fast.
	Many bool
}

// prepared is a root filesystem; its content does not change once it is in Store.roots.
type prepared struct {
	// Base is the name of the directory with the mount points, on top of the layers; empty if they have them all.
	Base string `json:"base,omitempty"`
	// Lower are the names of the layers' directories, the topmost first.
	Lower    []string `json:"lower"`
	Volatile bool     `json:"volatile,omitempty"`
	ReadOnly bool     `json:"readOnly,omitempty"`
	Root     rootMeta `json:"root"`
}

// Prepare makes the writable layer called id on top of layers, the lowest first. A layer that comes twice counts where
// it is topmost, an empty one does not count; of the rest at most 499 can be stacked.
func (s *Store) Prepare(ctx context.Context, id string, layers []digest.Digest, o PrepareOptions) (sys.Overlay, error) {
	if err := checkID(id); err != nil {
		return sys.Overlay{}, err
	}
	// The lock also keeps Collect from taking the layers away before this root is known to stand on them.
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.roots[id] != nil || s.lost[id] {
		return sys.Overlay{}, fmt.Errorf("prepare root filesystem %s: %w", id, errdefs.ErrAlreadyExists)
	}
	p, err := s.stackUp(layers)
	if err != nil {
		return sys.Overlay{}, fmt.Errorf("prepare root filesystem %s: %w", id, err)
	}
	p.Volatile, p.ReadOnly = o.Volatile, o.ReadOnly
	if !o.Bare {
		if p.Base, err = s.base(p); err != nil {
			return sys.Overlay{}, fmt.Errorf("prepare root filesystem %s: mount points: %w", id, err)
		}
	}
	if p.Base == "" && len(p.Lower) == 0 {
		p.ReadOnly = false // overlayfs cannot show nothing, and only that
	}
	if err := s.makeRoot(id, p, o.Many); err != nil {
		return sys.Overlay{}, fmt.Errorf("prepare root filesystem %s: %w", id, err)
	}
	s.roots[id] = p
	return s.overlay(id, p), nil
}

// checkID keeps ids from being paths.
func checkID(id string) error {
	if id == "" || id[0] == '.' || len(id) > 128 || strings.ContainsAny(id, "/\x00") {
		return fmt.Errorf("root filesystem id %q: %w", id, errdefs.ErrInvalidArgument)
	}
	return nil
}

// stackUp decides what the overlay is made of.
func (s *Store) stackUp(layers []digest.Digest) (*prepared, error) {
	p := &prepared{Root: rootMeta{Mode: 0o755}}
	var rootKnown, covered bool
	seen := make(map[digest.Digest]bool, len(layers))
	for _, id := range slices.Backward(layers) {
		if id == Empty {
			continue
		}
		l := s.layers[id]
		if l == nil {
			return nil, errNoLayer(id)
		}
		if l.Root != nil && !rootKnown {
			p.Root, rootKnown = *l.Root, true
		}
		if seen[id] || l.Empty || covered {
			continue // overlayfs refuses a directory that comes twice
		}
		seen[id], covered = true, l.Opaque
		p.Lower = append(p.Lower, l.name)
		if l.Under == "" || seen[l.Under] {
			continue
		}
		u := s.layers[l.Under]
		if u == nil {
			return nil, errNoLayer(l.Under)
		}
		seen[l.Under] = true
		p.Lower = append(p.Lower, u.name)
	}
	if len(p.Lower) > maxStack {
		return nil, &fault.Error{
			Code: "too-many-layers", What: "cannot stack the image's layers",
			Cause: fmt.Sprintf("it has %d, and no more than %d fit into an overlay", len(p.Lower), maxStack),
			Try:   "build the image in fewer steps, or export and import it", Class: errdefs.ErrInvalidArgument,
		}
	}
	return p, nil
}

// makeRoot makes the directories under a temporary name and renames them.
func (s *Store) makeRoot(id string, p *prepared, many bool) (err error) {
	tmp, err := s.makeDirs(p, many)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, sys.RemoveAllAt(s.fd, tmp))
		}
	}()
	if err := s.writeMeta(tmp+"/m", p); err != nil {
		return err
	}
	err = unix.Renameat2(s.fd, tmp, s.fd, "c/"+id, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%s is in the way: %w", filepath.Join(s.dir, "c", id), errdefs.ErrAlreadyExists)
	}
	return err
}

// How long making the first directories may take, and how often another place is tried. Ext4 does not use an inode again for some
// minutes after its file was deleted, and passes over all of them one by one for each file that it makes beside them: after
// thousands were deleted, that makes it ten times slower. Temporary names are spread over the disk, so another one is elsewhere.
const (
	slowPlace  = 150 * time.Microsecond
	placeTries = 4
)

// makeDirs makes the directories of a root filesystem under a temporary name.
func (s *Store) makeDirs(p *prepared, many bool) (tmp string, err error) {
	for try := 1; ; try++ {
		tmp = "t/" + randomName()
		began := time.Now()
		if err = unix.Mkdirat(s.fd, tmp, 0o700); err != nil {
			return "", err
		}
		if !p.ReadOnly {
			err = s.makeUpper(tmp, p.Root)
		}
		if err == nil && (!many || try == placeTries || time.Since(began) < slowPlace) {
			return tmp, nil
		}
		if err = errors.Join(err, sys.RemoveAllAt(s.fd, tmp)); err != nil {
			return "", err
		}
	}
}

func (s *Store) makeUpper(tmp string, r rootMeta) error {
	upper := tmp + "/u"
	if err := unix.Mkdirat(s.fd, upper, r.Mode); err != nil {
		return err
	}
	if r.UID != 0 || r.GID != 0 {
		if err := unix.Fchownat(s.fd, upper, r.UID, r.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	if r.Mode != 0o755 { // which no sensible umask changes
		if err := unix.Fchmodat(s.fd, upper, r.Mode, 0); err != nil {
			return err
		}
	}
	return unix.Mkdirat(s.fd, tmp+"/w", 0o700)
}

// overlay describes the mount.
func (s *Store) overlay(id string, p *prepared) sys.Overlay {
	o := sys.Overlay{UserXattr: s.userXattr, Volatile: p.Volatile && !p.ReadOnly}
	if p.Base != "" {
		o.Lower = append(o.Lower, s.dir+"/i/"+p.Base)
	}
	for _, name := range p.Lower {
		o.Lower = append(o.Lower, s.dir+"/l/"+name+"/d")
	}
	if len(o.Lower) == 0 {
		o.Lower = []string{s.dir + "/e"}
	}
	if p.ReadOnly { // overlayfs wants two lower directories when nothing is writable
		if len(o.Lower) == 1 {
			o.Lower = append(o.Lower, s.dir+"/e")
		}
		return o
	}
	o.Upper, o.Work = s.dir+"/c/"+id+"/u", s.dir+"/c/"+id+"/w"
	return o
}

// Rootfs describes a prepared root filesystem again. It must not be mounted at that time.
func (s *Store) Rootfs(id string) (sys.Overlay, error) {
	p, err := s.root(id)
	if err != nil {
		return sys.Overlay{}, err
	}
	if p.Volatile && !p.ReadOnly {
		if err := s.forgetVolatile(id); err != nil {
			return sys.Overlay{}, err
		}
	}
	return s.overlay(id, p), nil
}

// forgetVolatile removes the mark by which overlayfs refuses to mount a volatile layer again. It fears a crash of the
// machine; a container with a volatile layer does not live through that.
func (s *Store) forgetVolatile(id string) error {
	mark := "c/" + id + "/w/work/incompat/volatile"
	err := unix.Unlinkat(s.fd, mark+"/dirty", 0)
	if err == nil {
		err = unix.Unlinkat(s.fd, mark, unix.AT_REMOVEDIR)
	}
	if err != nil && err != unix.ENOENT {
		return fmt.Errorf("root filesystem %s: forget volatile mount: %w", id, err)
	}
	return nil
}
