package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/db"
)

// row is a user's network as it is stored: what was asked for, completed with what was chosen.
type row struct {
	ID, Name, Driver     string
	Created              time.Time
	IPv4, IPv6           bool
	Internal, Attachable bool
	ConfigOnly           bool   `json:",omitempty"`
	ConfigFrom           string `json:",omitempty"`
	IPAM                 network.IPAM
	Options              map[string]string `json:",omitempty"`
	Labels               map[string]string `json:",omitempty"`
}

var rows = db.Table[row]{Name: "networks"}

// subnets are those of both families.
func (r *row) subnets() []netip.Prefix {
	var list []netip.Prefix
	for _, c := range r.IPAM.Config {
		list = append(list, c.Subnet)
	}
	return list
}

// ledger keeps the rows in a file that is made with the first network.
type ledger struct {
	path string

	mu   sync.Mutex // guards file
	file *db.DB
}

// open opens the file if there is one, or if it is to be made.
func (l *ledger) open(make bool) (*db.DB, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		return l.file, nil
	}
	if l.path == "" {
		return nil, errors.New("no place to store networks")
	}
	if _, err := os.Stat(l.path); errors.Is(err, fs.ErrNotExist) {
		if !make {
			return nil, nil
		}
		if err := os.MkdirAll(filepath.Dir(l.path), 0o700); err != nil {
			return nil, err
		}
	}
	file, err := db.Open(l.path, db.Options{})
	if err != nil {
		return nil, fmt.Errorf("open the networks' file: %w", err)
	}
	l.file = file
	return file, nil
}

func (l *ledger) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

// all reads the rows, in the order of their creation as far as names matter to nobody.
func (l *ledger) all() ([]row, error) {
	if l.path == "" {
		return nil, nil
	}
	file, err := l.open(false)
	if err != nil || file == nil {
		return nil, err
	}
	var list []row
	err = file.View(func(tx *db.Tx) error {
		return rows.Each(tx, func(_ string, r *row) error { list = append(list, *r); return nil })
	})
	if err != nil {
		return nil, fmt.Errorf("read networks: %w", err)
	}
	return list, nil
}

func (l *ledger) put(r *row) error {
	file, err := l.open(true)
	if err != nil {
		return err
	}
	if err := file.Update(func(tx *db.Tx) error { return rows.Put(tx, r.ID, r) }); err != nil {
		return fmt.Errorf("write network %s: %w", r.Name, err)
	}
	return nil
}

func (l *ledger) remove(r *row) error {
	file, err := l.open(true)
	if err != nil {
		return err
	}
	if err := file.Update(func(tx *db.Tx) error { return rows.Delete(tx, r.ID) }); err != nil {
		return fmt.Errorf("delete network %s: %w", r.Name, err)
	}
	return nil
}
