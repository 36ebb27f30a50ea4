package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/sys"
)

// Placing is a volume that comes from elsewhere.
type Placing struct {
	Name            string
	Labels, Options map[string]string
	// Replace lets it take the place of a volume of the same name that no container uses.
	Replace bool
}

// MayPlace says whether Place would be refused, before anything is brought here for it. A volume that is there and empty, and
// that no container uses, is in nobody's way.
func (s *Store) MayPlace(p Placing) error {
	if err := checkName(p.Name); err != nil {
		return err
	}
	if err := checkOptions(p.Options); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mayPlace(p)
}

// mayPlace is the part of MayPlace that can change until the volume is placed. The caller holds the lock.
func (s *Store) mayPlace(p Placing) error {
	e := s.volumes[p.Name]
	if e == nil {
		return nil
	}
	if len(e.uses) > 0 {
		users := slices.Sorted(maps.Keys(e.uses))
		if s.NameOf != nil {
			for i, u := range users {
				users[i] = s.NameOf(u)
			}
		}
		return &fault.Error{
			Code: "volume-in-use", What: "there is a volume " + p.Name + " already", Class: errdefs.ErrConflict,
			Cause: "it is used by " + strings.Join(users, ", "), Try: "remove its containers, or give this one another name",
		}
	}
	if p.Replace {
		return nil
	}
	if empty, err := isEmpty(s.data(p.Name)); err != nil || empty && !mounted(e.Options) {
		return err
	}
	return &fault.Error{
		Code: "volume-name-taken", What: "there is a volume " + p.Name + " already", Cause: "it has files in it",
		Try: "--replace, if they may go", Class: errdefs.ErrConflict,
	}
}

// Place makes a volume with the files of a tar, which must be plain: all of it, or nothing that has the volume's name. When it
// returns, the volume survives a crash of the machine. Of a volume that is something to be mounted no tar is read.
func (s *Store) Place(ctx context.Context, p Placing, tar io.Reader) error {
	if err := s.MayPlace(p); err != nil {
		return err
	}
	e := newEntry(p.Name, meta{Created: time.Now().UTC(), Labels: maps.Clone(p.Labels), Options: maps.Clone(p.Options)})
	s.mu.Lock() // for the choice of a project's number
	tmp, err := s.makeAside(e)
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("create volume %s: %w", p.Name, err)
	}
	if !mounted(p.Options) {
		err = unpack(ctx, filepath.Join(tmp, dataDir), tar)
	}
	if err == nil {
		err = syncAll(tmp)
	}
	if err == nil {
		err = s.putInPlace(p, e, tmp)
	}
	if err != nil {
		if e.Project != 0 {
			err = errors.Join(err, unlimit(tmp, e.Project))
		}
		return errors.Join(fmt.Errorf("create volume %s: %w", p.Name, err), sys.RemoveTree(tmp))
	}
	return syncDir(s.dir)
}

// putInPlace gives the volume its name.
func (s *Store) putInPlace(p Placing, e *entry, tmp string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mayPlace(p); err != nil {
		return err
	}
	if old := s.volumes[p.Name]; old != nil {
		if err := s.unmake(old); err != nil {
			return err
		}
		delete(s.volumes, p.Name)
		s.emit(events.ActionDestroy, old)
	}
	if err := os.Rename(tmp, s.path(p.Name)); err != nil {
		return err
	}
	s.volumes[p.Name] = e
	s.emit(events.ActionCreate, e)
	return nil
}

// syncAll writes the whole file system of a directory back.
func syncAll(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}
