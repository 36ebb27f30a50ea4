package engine

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kistdev/kist/internal/db"
)

var (
	definitions = db.Table[definition]{Name: "containers"}
	states      = db.Table[state]{Name: "states"}
	endings     = db.Table[farewell]{Name: "endings"}
)

// farewell is how a container ended that was removed at its exit.
type farewell struct {
	Code int
	At   time.Time
}

// ledger keeps the containers' rows in two files: those that must survive the machine, written through to the disk, and
// those of containers that are removed when they exit, which mean nothing after a reboot and are never waited for.
type ledger struct {
	durable, fleeting *db.DB
}

// openLedger opens both files. The fleeting one is thrown away unless it was written since this boot of the kernel: it
// is not synced, so a reboot may have torn it.
func openLedger(dataRoot, execRoot, boot string) (*ledger, error) {
	if err := os.MkdirAll(execRoot, 0o711); err != nil {
		return nil, err
	}
	file, mark := filepath.Join(execRoot, "run.db"), filepath.Join(execRoot, "boot-id")
	if last, err := os.ReadFile(mark); err != nil || string(last) != boot {
		if err := os.RemoveAll(file); err != nil {
			return nil, err
		}
		if err := os.WriteFile(mark, []byte(boot), 0o600); err != nil {
			return nil, err
		}
	}
	durable, err := db.Open(filepath.Join(dataRoot, "kist.db"), db.Options{})
	if err != nil {
		return nil, err
	}
	fleeting, err := db.Open(file, db.Options{NoSync: true})
	if err != nil {
		return nil, errors.Join(err, durable.Close())
	}
	return &ledger{durable: durable, fleeting: fleeting}, nil
}

// bootID tells one boot of the kernel from another.
func bootID() string {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}

func (l *ledger) close() error { return errors.Join(l.fleeting.Close(), l.durable.Close()) }

func (l *ledger) of(d *definition) *db.DB {
	if d.HostConfig.AutoRemove {
		return l.fleeting
	}
	return l.durable
}

// define writes both rows of a container.
func (l *ledger) define(d *definition, s state) error {
	err := l.of(d).Batch(func(tx *db.Tx) error {
		if err := definitions.Put(tx, d.ID, d.packed()); err != nil {
			return err
		}
		return states.Put(tx, d.ID, s.packed())
	})
	if err != nil {
		return fmt.Errorf("write container %s: %w", d.ID, err)
	}
	return nil
}

// note writes the state.
func (l *ledger) note(d *definition, s state) error {
	err := l.of(d).Batch(func(tx *db.Tx) error { return states.Put(tx, d.ID, s.packed()) })
	if err != nil {
		return fmt.Errorf("write state of container %s: %w", d.ID, err)
	}
	return nil
}

// forget deletes both rows.
func (l *ledger) forget(d *definition) error {
	return l.replace(d, func(*db.Tx) error { return nil })
}

// depart is forget that leaves word of how a container ended, and forgets another one's word.
func (l *ledger) depart(d *definition, end farewell, another string) error {
	return l.replace(d, func(tx *db.Tx) error {
		if err := endings.Delete(tx, another); err != nil {
			return err
		}
		return endings.Put(tx, d.ID, &end)
	})
}

// replace deletes a container's rows and does more in the same transaction.
func (l *ledger) replace(d *definition, more func(*db.Tx) error) error {
	err := l.of(d).Batch(func(tx *db.Tx) error {
		if err := definitions.Delete(tx, d.ID); err != nil {
			return err
		}
		if err := states.Delete(tx, d.ID); err != nil {
			return err
		}
		return more(tx)
	})
	if err != nil {
		return fmt.Errorf("delete container %s: %w", d.ID, err)
	}
	return nil
}

// recall gives back what depart has left, the oldest first, and deletes what is too much.
func (l *ledger) recall(to *departed) error {
	ends := map[string]farewell{}
	err := l.fleeting.View(func(tx *db.Tx) error {
		return endings.Each(tx, func(id string, e *farewell) error {
			ends[id] = *e
			return nil
		})
	})
	if err != nil || len(ends) == 0 {
		return err
	}
	var old []string
	for _, id := range slices.SortedFunc(maps.Keys(ends), func(a, b string) int { return ends[a].At.Compare(ends[b].At) }) {
		if forgotten := to.add(id, ends[id].Code); forgotten != "" {
			old = append(old, forgotten)
		}
	}
	if len(old) == 0 {
		return nil
	}
	return l.fleeting.Update(func(tx *db.Tx) error {
		for _, id := range old {
			if err := endings.Delete(tx, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// all reads the containers of both files.
func (l *ledger) all() ([]*container, error) {
	var list []*container
	for _, file := range []*db.DB{l.durable, l.fleeting} {
		err := file.View(func(tx *db.Tx) error {
			return definitions.Each(tx, func(id string, d *definition) error {
				s, err := states.Get(tx, id)
				if err != nil {
					return err
				}
				d.unpack()
				s.unpack()
				list = append(list, newContainer(d, *s))
				return nil
			})
		})
		if err != nil {
			return nil, fmt.Errorf("read containers: %w", err)
		}
	}
	return list, nil
}
