// Package db stores typed rows in one bbolt file: a table is a bucket, a row is JSON under its key.
//
// Transactions are closures, as in bbolt: View may run beside others, Update runs alone and is on disk when it returns,
// unless the file was opened with NoSync.
package db

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Options are what Open can be told. The zero value is a durable file.
type Options struct {
	// NoSync leaves writing to the kernel. The rows survive the death of the process but not of the machine: right for
	// rows that mean nothing after a reboot.
	NoSync bool
}

// DB is one open file. It is safe for concurrent use.
type DB struct {
	bolt  *bolt.DB
	batch batch
}

// Tx is a running transaction. It must not be used after its closure returned.
type Tx struct {
	bolt *bolt.Tx
}

// Open opens or creates the file. A file held by another process is an errdefs.ErrConflict after two seconds, a damaged one an
// errdefs.ErrDataLoss.
func Open(path string, o Options) (_ *DB, err error) {
	defer func() {
		if r := recover(); r != nil { // bbolt does not expect a page to be anything but a page
			err = fmt.Errorf("open %s: the file is damaged: %v: %w", path, r, errdefs.ErrDataLoss)
		}
	}()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	b, err := bolt.Open(path, 0o600, &bolt.Options{
		Timeout:      2 * time.Second,
		NoSync:       o.NoSync,
		NoGrowSync:   o.NoSync,
		FreelistType: bolt.FreelistMapType,
	})
	if err != nil {
		if errors.Is(err, bolterrors.ErrTimeout) {
			return nil, fmt.Errorf("open %s: held by another process: %w", path, errdefs.ErrConflict)
		}
		if errors.Is(err, bolterrors.ErrInvalid) || errors.Is(err, bolterrors.ErrVersionMismatch) || errors.Is(err, bolterrors.ErrChecksum) {
			return nil, fmt.Errorf("open %s: the file is damaged: %w: %w", path, err, errdefs.ErrDataLoss)
		}
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &DB{bolt: b}, nil
}

// Close waits for running transactions and closes the file.
func (d *DB) Close() error { return d.bolt.Close() }

// View runs fn in a read-only transaction.
func (d *DB) View(fn func(*Tx) error) error {
	return d.bolt.View(func(tx *bolt.Tx) error { return fn(&Tx{tx}) })
}

// Update runs fn in a read-write transaction, which is rolled back when fn returns an error.
func (d *DB) Update(fn func(*Tx) error) error {
	return d.bolt.Update(func(tx *bolt.Tx) error { return fn(&Tx{tx}) })
}

// Table is a bucket of rows of one type. Declare it once as a package variable:
//
//	var containers = db.Table[row]{Name: "containers"}
type Table[T any] struct {
	Name string
}

// Get returns the row under key, or an errdefs.ErrNotFound.
func (t Table[T]) Get(tx *Tx, key string) (*T, error) {
	b := tx.bolt.Bucket([]byte(t.Name))
	if b == nil {
		return nil, fmt.Errorf("%s %q: %w", t.Name, key, errdefs.ErrNotFound)
	}
	raw := b.Get([]byte(key))
	if raw == nil {
		return nil, fmt.Errorf("%s %q: %w", t.Name, key, errdefs.ErrNotFound)
	}
	return t.decode(key, raw)
}

// Put writes the row under key, over any row that is there. The transaction must be an Update.
func (t Table[T]) Put(tx *Tx, key string, row *T) error {
	raw, err := json.Marshal(row)
	if err != nil {
		return fmt.Errorf("encode %s %q: %w", t.Name, key, err)
	}
	b, err := tx.bolt.CreateBucketIfNotExists([]byte(t.Name))
	if err != nil {
		return fmt.Errorf("table %s: %w", t.Name, err)
	}
	return b.Put([]byte(key), raw)
}

// Delete removes the row under key; a row that is not there is no error. The transaction must be an Update.
func (t Table[T]) Delete(tx *Tx, key string) error {
	b := tx.bolt.Bucket([]byte(t.Name))
	if b == nil {
		return nil
	}
	return b.Delete([]byte(key))
}

// Each calls fn for every row in the order of the keys, until fn returns an error, which Each returns.
func (t Table[T]) Each(tx *Tx, fn func(key string, row *T) error) error {
	b := tx.bolt.Bucket([]byte(t.Name))
	if b == nil {
		return nil
	}
	return b.ForEach(func(k, raw []byte) error {
		row, err := t.decode(string(k), raw)
		if err != nil {
			return err
		}
		return fn(string(k), row)
	})
}

func (t Table[T]) decode(key string, raw []byte) (*T, error) {
	row := new(T)
	if err := json.Unmarshal(raw, row); err != nil {
		return nil, fmt.Errorf("decode %s %q: %w", t.Name, key, err)
	}
	return row, nil
}
