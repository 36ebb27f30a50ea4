package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kistdev/kist/internal/db"
)

var (
	definitions = db.Table[definition]{Name: "containers"}
	states      = db.Table[state]{Name: "states"}
)

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
	err := l.of(d).Batch(func(tx *db.Tx) error {
		if err := definitions.Delete(tx, d.ID); err != nil {
			return err
		}
		return states.Delete(tx, d.ID)
	})
	if err != nil {
		return fmt.Errorf("delete container %s: %w", d.ID, err)
	}
	return nil
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
