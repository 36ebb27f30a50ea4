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
)

// driverLocal is the only driver.
const driverLocal = "local"

// anonymousLabel is docker's mark of a volume that nobody named.
const anonymousLabel = "com.docker.volume.anonymous"

// Store is the volumes of one data root. It is safe for concurrent use.
type Store struct {
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
		return nil, false, fmt.Errorf("error looking up volume plugin %s: plugin %q not found: %w", driver, driver, errdefs.ErrNotFound)
	}
	if name == "" {
		name = randomName()
		labels = maps.Clone(labels)
		if labels == nil {
			labels = map[string]string{}
		}
		labels[anonymousLabel] = ""
	}
	if err := checkName(name); err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.volumes[name]; e != nil {
		fresh, err := s.fresh(e)
		return s.show(e), fresh, err
	}
	if err := checkOptions(options); err != nil {
		return nil, false, err
	}
	e := &entry{name: name, meta: meta{Created: time.Now().UTC(), Labels: maps.Clone(labels), Options: maps.Clone(options)}, uses: map[string]bool{}}
	if err := s.make(e); err != nil {
		return nil, false, fmt.Errorf("create volume %s: %w", name, err)
	}
	s.volumes[name] = e
	s.emit(events.ActionCreate, e)
	return s.show(e), true, nil
}

// fresh says whether an image's content may go into the volume.
func (s *Store) fresh(e *entry) (bool, error) {
	if len(e.uses) > 0 {
		return false, nil
	}
	d, err := os.Open(s.data(e.name))
	if err != nil {
		return false, fmt.Errorf("volume %s: %w", e.name, err)
	}
	defer d.Close()
	names, _ := d.Readdirnames(1)
	return len(names) == 0, nil
}

// checkOptions refuses what is not served.
func checkOptions(options map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(options)) {
		switch key {
		case "type", "o", "device", "size":
			return &fault.Error{
				Code: "volume-options", What: fmt.Sprintf("cannot create a volume with the option %q", key),
				Cause: "volume options are not served yet", Try: "a bind mount or --tmpfs instead", Class: errdefs.ErrNotImplemented,
			}
		default:
			return fmt.Errorf("invalid option: %q: %w", key, errdefs.ErrInvalidArgument)
		}
	}
	return nil
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
	return nil, fmt.Errorf("get %s: no such volume: %w", name, errdefs.ErrNotFound)
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
