package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	bolt "go.etcd.io/bbolt"

	"github.com/kistdev/kist/internal/client"
)

// inventory is what the daemon's rows say there is. What is on the host beyond it is left over.
type inventory struct {
	containers map[string]kept // by id
	networks   map[string]bool // ids of users' networks
	// whole is false where the rows could not all be read.
	whole bool
}

// kept is a container of the rows.
type kept struct {
	name      string
	running   bool
	endpoints []string // ids of its network endpoints
}

// takeStock asks the daemon, or reads its rows where it does not run.
func (h *host) takeStock(ctx context.Context) (*inventory, error) {
	if h.daemon.err == nil {
		return asked(ctx, h.askForStock)
	}
	if h.daemon.pid != 0 {
		return nil, fmt.Errorf("the daemon (pid %d) holds the rows and does not answer", h.daemon.pid)
	}
	return h.readStock()
}

func (h *host) askForStock() (*inventory, error) {
	s := &inventory{containers: map[string]kept{}, networks: map[string]bool{}, whole: true}
	list, err := client.CallJSON[[]docker.Summary](h.daemon.api, client.Get("/containers/json", url.Values{"all": {"1"}}))
	if err != nil {
		return nil, err
	}
	for i := range *list {
		c := &(*list)[i]
		k := kept{running: c.State == docker.StateRunning || c.State == docker.StatePaused}
		if len(c.Names) > 0 {
			k.name = c.Names[0][1:]
		}
		if c.NetworkSettings != nil {
			k.endpoints = endpointIDs(c.NetworkSettings.Networks)
		}
		s.containers[c.ID] = k
	}
	networks, err := client.CallJSON[[]network.Summary](h.daemon.api, client.Get("/networks", nil))
	if err != nil {
		return nil, err
	}
	for i := range *networks {
		s.networks[(*networks)[i].ID] = true
	}
	return s, nil
}

func endpointIDs(m map[string]*network.EndpointSettings) []string {
	var ids []string
	for _, e := range m {
		if e != nil && e.EndpointID != "" {
			ids = append(ids, e.EndpointID)
		}
	}
	return ids
}

// stateRow is what is needed of a container's state as the engine stores it.
type stateRow struct {
	Phase    string
	Networks map[string]*network.EndpointSettings
}

// readStock reads the rows from the files.
func (h *host) readStock() (*inventory, error) {
	s := &inventory{containers: map[string]kept{}, networks: map[string]bool{}, whole: true}
	for _, file := range []string{filepath.Join(h.DataRoot, "kist.db"), filepath.Join(h.ExecRoot, "run.db")} {
		err := readDB(file, func(tx *bolt.Tx) error {
			return each(tx, "containers", func(id string, raw []byte) error {
				var d struct{ Name string }
				var st stateRow
				if err := json.Unmarshal(raw, &d); err != nil {
					return fmt.Errorf("row of container %s: %w", id, err)
				}
				if b := tx.Bucket([]byte("states")); b != nil {
					if raw := b.Get([]byte(id)); raw != nil {
						if err := json.Unmarshal(raw, &st); err != nil {
							return fmt.Errorf("state of container %s: %w", id, err)
						}
					}
				}
				alive := (st.Phase == "running" || st.Phase == "paused") && h.hasTask(id)
				s.containers[id] = kept{name: d.Name, running: alive, endpoints: endpointIDs(st.Networks)}
				return nil
			})
		})
		if err != nil {
			return nil, err
		}
	}
	files, _ := filepath.Glob(filepath.Join(h.DataRoot, "networks", "*.db"))
	for _, file := range files {
		if err := readDB(file, func(tx *bolt.Tx) error {
			return each(tx, "networks", func(id string, raw []byte) error {
				var n struct{ ID string }
				if json.Unmarshal(raw, &n) == nil && n.ID != "" {
					id = n.ID
				}
				s.networks[id] = true
				return nil
			})
		}); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// hasTask says whether the keeper has a process for the container that is alive.
func (h *host) hasTask(id string) bool {
	raw, err := os.ReadFile(filepath.Join(h.ExecRoot, "keeper", "tasks", id+".pid"))
	if err != nil {
		return false
	}
	var p struct{ PID int }
	if json.Unmarshal(raw, &p) != nil || p.PID <= 0 {
		return false
	}
	_, err = os.Stat(fmt.Sprintf("/proc/%d", p.PID))
	return err == nil
}

// each calls fn for the rows of a table.
func each(tx *bolt.Tx, table string, fn func(key string, raw []byte) error) error {
	b := tx.Bucket([]byte(table))
	if b == nil {
		return nil
	}
	return b.ForEach(func(k, v []byte) error { return fn(string(k), v) })
}

// readDB reads a file of rows that no process holds. One that is not there has none; one that is damaged may make the library
// panic, which is an error here.
func readDB(path string, fn func(tx *bolt.Tx) error) (err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s is damaged: %v", path, r)
		}
	}()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer db.Close()
	if err := db.View(fn); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
