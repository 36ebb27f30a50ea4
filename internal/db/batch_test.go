package db

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
)

type row struct{ N int }

var rows = Table[row]{Name: "rows"}

func open(t *testing.T, o Options) *DB {
	t.Helper()
	d, err := Open(filepath.Join(t.TempDir(), "x.db"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// Of many writers at a time each gets its own result: one that fails spoils nobody else's.
func TestBatch(t *testing.T) {
	d := open(t, Options{NoSync: true})
	bad := errors.New("bad")
	errs := make([]error, 100)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			errs[i] = d.Batch(func(tx *Tx) error {
				if err := rows.Put(tx, fmt.Sprint(i), &row{i}); err != nil {
					return err
				}
				if i%7 == 0 {
					return bad
				}
				return nil
			})
		})
	}
	wg.Wait()
	err := d.View(func(tx *Tx) error {
		for i, err := range errs {
			r, getErr := rows.Get(tx, fmt.Sprint(i))
			if i%7 == 0 {
				if !errors.Is(err, bad) || !errdefs.IsNotFound(getErr) {
					t.Errorf("failing writer %d: %v, row %v, %v", i, err, r, getErr)
				}
				continue
			}
			if err != nil || getErr != nil || r.N != i {
				t.Errorf("writer %d: %v, row %v, %v", i, err, r, getErr)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	d, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	err = d.Update(func(tx *Tx) error {
		if err := rows.Put(tx, "lost", &row{1}); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Error(err)
	}
	if err := d.Update(func(tx *Tx) error {
		for i := range 3 {
			if err := rows.Put(tx, fmt.Sprint(i), &row{i}); err != nil {
				return err
			}
		}
		return rows.Delete(tx, "1")
	}); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err = Open(path, Options{}); err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var keys string
	if err := d.View(func(tx *Tx) error {
		return rows.Each(tx, func(key string, r *row) error {
			keys += fmt.Sprint(key, "=", r.N, " ")
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	if keys != "0=0 2=2 " {
		t.Errorf("rows %q", keys)
	}
}
