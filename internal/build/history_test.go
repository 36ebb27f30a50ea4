package build

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/kistdev/kist/internal/db"
)

// Histories and their lists of files do not grow without an end; one that is replaced takes its old lists along.
func TestHistoriesAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "build.db")
	c, err := OpenCache(path)
	if err != nil {
		t.Fatal(err)
	}
	keep := func(key, list string) {
		h := &history{Steps: []stepRow{{Parts: []partRow{{Value: list}, {Value: "no list"}}}}}
		c.keep(key, h, map[string][]byte{list: []byte("files")})
	}
	for i := range keptHistories + 3*historySpare {
		keep(fmt.Sprint("key-", i), fmt.Sprint("list-", i))
	}
	keep("again", "old")
	keep("again", "shared")
	keep("other", "shared")
	keep("again", "new")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if c, err = OpenCache(path); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var histories, lists int
	err = c.db.View(func(tx *db.Tx) error {
		if err := historyTable.Each(tx, func(string, *history) error { histories++; return nil }); err != nil {
			return err
		}
		return filesTable.Each(tx, func(name string, l *fileList) error {
			lists++
			if name == "old" || name == "shared" && l.Owner != "other" {
				t.Errorf("the list %s of %s is still there", name, l.Owner)
			}
			return nil
		})
	})
	if err != nil || histories < keptHistories || histories > keptHistories+historySpare+1 || lists != histories {
		t.Errorf("%d histories, %d lists, %v", histories, lists, err)
	}
}
