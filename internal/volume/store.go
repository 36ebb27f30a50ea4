package volume

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/volume"

	"github.com/kistdev/kist/internal/event"
	"github.com/kistdev/kist/internal/fault"
	"github.com/kistdev/kist/internal/typo"
)

// driverLocal is the only driver.
const driverLocal = "local"

// anonymousLabel is docker's mark of a volume that nobody named.
const anonymousLabel = "com.docker.volume.anonymous"

// Store is the volumes of one data root. It is safe for concurrent use.
type Store struct {
	// NameOf, when set before the first use of the store, tells the name of a container for messages. It must not call
	// the store.
	NameOf func(containerID string) string

	dir string
	bus *event.Bus

	removals sync.WaitGroup // deletions that go on behind

	mu      sync.Mutex // guards what follows, and the directory's entries
	volumes map[string]*entry
}

// entry is a volume.
type entry struct {
	meta
	name string
	uses map[string]bool // by container id

	op     sync.Mutex      // held while it is mounted or unmounted; taken before the store's lock, never after
	mounts map[string]bool // by user of Mount
}

func newEntry(name string, m meta) *entry {
	return &entry{name: name, meta: m, uses: map[string]bool{}, mounts: map[string]bool{}}
}

// Open opens the store in dir, and removes what a crash left half made or half removed.
func Open(dir string, bus *event.Bus) (*Store, error) {
	if err := os.MkdirAll(dir, 0o701); err != nil {
		return nil, fmt.Errorf("open volumes: %w", err)
	}
	s := &Store{dir: dir, bus: bus, volumes: map[string]*entry{}}
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open volumes: %w", err)
	}
	for _, e := range list {
		switch {
		case isRemains(e.Name()):
			s.removeBehind(filepath.Join(dir, e.Name()))
		case e.IsDir() && nameForm.MatchString(e.Name()):
			v, err := load(filepath.Join(dir, e.Name()), e.Name())
			if err != nil {
				return nil, err
			}
			if v != nil {
				s.volumes[v.name] = v
			}
		}
	}
	return s, nil
}

// Close waits for deletions to end.
func (s *Store) Close() error {
	s.removals.Wait()
	return nil
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }
func (s *Store) data(name string) string { return filepath.Join(s.dir, name, dataDir) }

// Ensure returns the volume called name, made if it is not there; an empty name makes an anonymous one. fresh says that it
// is still empty and used by no container, so that the image's content may be copied into it.
func (s *Store) Ensure(ctx context.Context, name, driver string, labels, options map[string]string) (v *volume.Volume, fresh bool, err error) {
	if driver != "" && driver != driverLocal {
		return nil, false, &fault.Error{
			Code: "volume-driver-unknown", What: fmt.Sprintf("error looking up volume plugin %s: plugin %q not found", driver, driver),
			Cause: "kist has the driver local only, which mounts NFS, CIFS and tmpfs as well", Try: "--driver local --opt type=nfs ...", Class: errdefs.ErrNotFound,
		}
	}
	if name == "" {
		name = randomName()
		labels = maps.Clone(labels)
		if labels == nil {
			labels = map[string]string{}
		}
		labels[anonymousLabel] = ""
	}
	made, err := s.ensure(name, labels, options)
	if err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.get(name)
	if err != nil {
		return nil, false, err
	}
	if fresh = made; !made {
		fresh, err = s.fresh(e)
	}
	return s.show(e), fresh, err
}

// ensure makes the volume unless it is there.
func (s *Store) ensure(name string, labels, options map[string]string) (made bool, err error) {
	if err := checkName(name); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.volumes[name] != nil {
		return false, nil
	}
	if err := checkOptions(options); err != nil {
		return false, err
	}
	e := newEntry(name, meta{Created: time.Now().UTC(), Labels: maps.Clone(labels), Options: maps.Clone(options)})
	if err := s.make(e); err != nil {
		return false, fmt.Errorf("create volume %s: %w", name, err)
	}
	s.volumes[name] = e
	s.emit(events.ActionCreate, e)
	return true, nil
}

// fresh says whether an image's content may go into the volume.
func (s *Store) fresh(e *entry) (bool, error) {
	if len(e.uses) > 0 {
		return false, nil
	}
	if mounted(e.Options) {
		return true, nil // whether it is empty is seen when it is mounted
	}
	empty, err := isEmpty(s.data(e.name))
	if err != nil {
		return false, fmt.Errorf("volume %s: %w", e.name, err)
	}
	return empty, nil
}

// Use marks a volume as used by a container, and Release ends that for all volumes of the container.
func (s *Store) Use(name, containerID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.get(name)
	if err != nil {
		return err
	}
	e.uses[containerID] = true
	return nil
}

// Release ends the container's uses.
func (s *Store) Release(containerID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.volumes {
		delete(e.uses, containerID)
	}
}

// Users are the containers that use a volume, sorted.
func (s *Store) Users(name string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.volumes[name]
	if e == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(e.uses))
}

// get finds a volume, in docker's words if there is none. The caller holds the lock.
func (s *Store) get(name string) (*entry, error) {
	if e := s.volumes[name]; e != nil {
		return e, nil
	}
	f := &fault.Error{Code: "no-such-volume", What: "get " + name + ": no such volume", Class: errdefs.ErrNotFound}
	if near := typo.Nearest(name, slices.Collect(maps.Keys(s.volumes))); near != "" {
		f.Try = "did you mean " + near + "?"
	}
	return nil, f
}

// show is docker's view of a volume.
func (s *Store) show(e *entry) *volume.Volume {
	v := &volume.Volume{
		CreatedAt: e.Created.Format(time.RFC3339), Driver: driverLocal, Labels: maps.Clone(e.Labels),
		Mountpoint: s.data(e.name), Name: e.name, Options: maps.Clone(e.Options), Scope: "local",
	}
	if v.Labels == nil {
		v.Labels = map[string]string{}
	}
	return v
}

func (s *Store) emit(action events.Action, e *entry) {
	if s.bus != nil {
		s.bus.Emit(events.VolumeEventType, action, e.name, map[string]string{"driver": driverLocal})
	}
}

// anonymous says whether nobody named the volume.
func (e *entry) anonymous() bool {
	_, ok := e.Labels[anonymousLabel]
	return ok
}

// isRemains tells the names of what is not a volume yet, or not any more.
func isRemains(name string) bool {
	return strings.HasPrefix(name, newPrefix) || strings.HasPrefix(name, gonePrefix)
}
