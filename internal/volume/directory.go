package volume

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kistdev/kist/internal/sys"
)

// The names in a volume's directory, and the prefixes of those that are no volumes.
const (
	dataDir    = "_data"
	metaFile   = "volume.json"
	newPrefix  = ".new-"
	gonePrefix = ".gone-"
	copyPrefix = ".copy-" // inside a volume's directory
)

// meta is the content of volume.json.
type meta struct {
	Created time.Time         `json:"created"`
	Labels  map[string]string `json:"labels,omitempty"`
	Options map[string]string `json:"options,omitempty"`
	// Project is the number that the volume's files have for the quota of its size, 0 if it has none.
	Project uint32 `json:"project,omitempty"`
}

// make writes the volume's directory: all of it, or nothing that has the volume's name.
func (s *Store) make(e *entry) error {
	tmp, err := s.makeAside(e)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, s.path(e.name)); err != nil {
		return errors.Join(err, sys.RemoveTree(tmp))
	}
	// An anonymous volume goes with its container: nobody was promised that it outlives the machine.
	if !e.anonymous() {
		return syncDir(s.dir)
	}
	return nil
}

// makeAside writes a volume's directory under a name that no volume has.
func (s *Store) makeAside(e *entry) (_ string, err error) {
	tmp, err := os.MkdirTemp(s.dir, newPrefix)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = sys.RemoveTree(tmp)
		}
	}()
	if err := errors.Join(os.Chmod(tmp, 0o701), mkdir(filepath.Join(tmp, dataDir), 0o755)); err != nil {
		return "", err
	}
	if size, err := sizeOf(e.Options); err != nil {
		return "", err
	} else if size > 0 {
		e.Project = s.newProject()
		if err := limit(filepath.Join(tmp, dataDir), e.Project, size); err != nil {
			return "", err
		}
	}
	raw, err := json.Marshal(e.meta)
	if err != nil {
		return "", err
	}
	return tmp, writeFile(filepath.Join(tmp, metaFile), raw, !e.anonymous())
}

// mkdir is os.Mkdir with the mode as it is, whatever the umask.
func mkdir(path string, mode fs.FileMode) error {
	if err := os.Mkdir(path, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

func writeFile(path string, b []byte, sync bool) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil && sync {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// load reads a volume's directory; one without data is no volume. A volume whose description is lost keeps its data.
func load(dir, name string) (*entry, error) {
	e := newEntry(name, meta{})
	info, err := os.Lstat(filepath.Join(dir, dataDir))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open volume %s: %w", name, err)
	}
	e.Created = info.ModTime().UTC()
	raw, err := os.ReadFile(filepath.Join(dir, metaFile))
	if err == nil {
		err = json.Unmarshal(raw, &e.meta)
	}
	if err != nil {
		slog.Warn("the description of a volume cannot be read: its labels are lost", "volume", name, "error", err)
	}
	return e, removeCopies(dir)
}

// removeCopies removes what a copy-up left that did not end.
func removeCopies(dir string) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("open volume: %w", err)
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name(), copyPrefix) {
			if err := sys.RemoveTree(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("open volume: %w", err)
			}
		}
	}
	return nil
}

// unmake takes the volume away at once and deletes its content behind.
func (s *Store) unmake(e *entry) error {
	if e.Project != 0 {
		if err := unlimit(s.path(e.name), e.Project); err != nil {
			slog.Warn("the limit of a removed volume's size is left", "volume", e.name, "error", err)
		}
	}
	gone := filepath.Join(s.dir, gonePrefix+randomName()[:16])
	if err := os.Rename(s.path(e.name), gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.removeBehind(gone)
	return nil
}

// removeBehind deletes a directory while others go on. What stays is tried again by the next Open.
func (s *Store) removeBehind(dir string) {
	s.removals.Go(func() {
		if err := sys.RemoveTree(dir); err != nil {
			slog.Warn("a removed volume's files could not be deleted", "error", err)
		}
	})
}
