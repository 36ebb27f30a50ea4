package db

import (
	"errors"
	"sync"

	bolt "go.etcd.io/bbolt"
)

// batch collects the closures that wait for the file, so that one write to the disk serves them all.
type batch struct {
	mu      sync.Mutex // guards waiting
	waiting []*entry
	turn    sync.Mutex // held by the one who writes
}

type entry struct {
	fn   func(*Tx) error
	done bool // guarded by batch.turn
	err  error
}

var errRetry = errors.New("retry without the failed entry")

// Batch is Update for callers that come at the same time: whoever gets the file writes for all who wait, with one sync.
// A caller that is alone waits for nobody. fn may run again when another caller's fn failed, so it must have no effect
// but on its Tx.
func (d *DB) Batch(fn func(*Tx) error) error {
	e := &entry{fn: fn}
	d.batch.mu.Lock()
	d.batch.waiting = append(d.batch.waiting, e)
	d.batch.mu.Unlock()

	d.batch.turn.Lock()
	defer d.batch.turn.Unlock()
	if e.done {
		return e.err
	}
	d.batch.mu.Lock()
	all := d.batch.waiting
	d.batch.waiting = nil
	d.batch.mu.Unlock()
	d.write(all)
	return e.err
}

// write commits the entries in one transaction, without those that fail.
func (d *DB) write(all []*entry) {
	for len(all) > 0 {
		failed := -1
		err := d.bolt.Update(func(tx *bolt.Tx) error {
			for i, e := range all {
				if e.err = e.fn(&Tx{tx}); e.err != nil {
					failed = i
					return errRetry
				}
			}
			return nil
		})
		if failed >= 0 {
			all[failed].done = true
			all = append(all[:failed:failed], all[failed+1:]...)
			continue
		}
		for _, e := range all {
			e.done, e.err = true, err
		}
		return
	}
}
