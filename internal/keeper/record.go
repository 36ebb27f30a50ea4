package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kistdev/kist/internal/task"
)

// records are the files that outlive the keeper, all in one directory which does not outlive the machine's run, so that
// nothing needs to be synced:
//
//	ID.task        the request that made the task (task.CreateMessage), written before it exists
//	ID.pid         its process (pidRecord), written once it exists
//	ID.exit        how it ended (task.Exit); ID.EXECID.exit for execs
//	ID.gone        ID.task after Delete, until its cgroup is removed
type records struct{ dir string }

const (
	taskSuffix = ".task"
	pidSuffix  = ".pid"
	exitSuffix = ".exit"
	goneSuffix = ".gone"
	tempSuffix = ".tmp" // of all of them, while they are written
)

// pidRecord finds a process again of which no descriptor is left.
type pidRecord struct {
	PID     int
	Start   uint64 // its start time, which tells it from a later process of the same number
	Cgroup  string
	Started bool // it was let go
}

func (r records) path(id, suffix string) string { return filepath.Join(r.dir, id+suffix) }

func (r records) writeTask(id string, message []byte) error {
	if err := os.WriteFile(r.path(id, taskSuffix), message, 0o600); err != nil {
		return fmt.Errorf("task record: %w", err)
	}
	return nil
}

func (r records) readTask(id, suffix string) (*task.CreateMessage, error) {
	var m task.CreateMessage
	if err := readJSON(r.path(id, suffix), &m); err != nil {
		return nil, fmt.Errorf("task record: %w", err)
	}
	if m.Spec == nil || m.ID != id {
		return nil, fmt.Errorf("task record of %s is not one", id)
	}
	return &m, nil
}

func (r records) writePID(id string, p pidRecord) error { return writeJSON(r.path(id, pidSuffix), p) }

func (r records) readPID(id string) (p pidRecord, err error) {
	err = readJSON(r.path(id, pidSuffix), &p)
	return p, err
}

func exitName(id, execID string) string {
	if execID == "" {
		return id
	}
	return id + "." + execID
}

func (r records) writeExit(x *task.Exit) error {
	return writeJSON(r.path(exitName(x.ID, x.ExecID), exitSuffix), x)
}

// readExit returns nil when there is no record.
func (r records) readExit(id, execID string) *task.Exit {
	var x task.Exit
	if err := readJSON(r.path(exitName(id, execID), exitSuffix), &x); err != nil || x.ID != id {
		return nil
	}
	return &x
}

// bury begins the removal of a task: its cgroup is still to be removed.
func (r records) bury(id string, execs []string) error {
	if err := os.Rename(r.path(id, taskSuffix), r.path(id, goneSuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("task record: %w", err)
	}
	for _, name := range append(execs, "") {
		if err := r.remove(exitName(id, name), exitSuffix); err != nil {
			return err
		}
	}
	return nil
}

func (r records) remove(name, suffix string) error {
	if err := os.Remove(r.path(name, suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("task record: %w", err)
	}
	return nil
}

// list returns the ids that have a record with the suffix.
func (r records) list(suffix string) ([]string, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, fmt.Errorf("task records: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), suffix); ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// dropHalves removes what a keeper that died was writing.
func (r records) dropHalves() error {
	names, err := r.list(tempSuffix)
	errs := []error{err}
	for _, name := range names {
		errs = append(errs, r.remove(name, tempSuffix))
	}
	return errors.Join(errs...)
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// writeJSON replaces a file as a whole.
func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	temp := path + tempSuffix
	if err := os.WriteFile(temp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// validName says whether a name from outside may be part of a file's name.
func validName(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
