package build

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/db"
)

// history is what the last build of a Dockerfile consisted of.
type history struct {
	Steps []stepRow `json:"steps"`
	// At is when the build was, in seconds since 1970.
	At int64 `json:"at,omitempty"`
}

// keptHistories is how many histories are kept: builds of contexts that have no lasting name, as those that the API is sent, make a
// new one each. historySpare is by how many there may be more before some are dropped.
const (
	keptHistories = 1000
	historySpare  = 100
)

// stepRow is one step of the last build.
type stepRow struct {
	Name  string        `json:"name"`
	Key   digest.Digest `json:"key"`
	Parts []partRow     `json:"parts"`
}

type partRow struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Input int    `json:"input,omitempty"`
}

// fileList is the files behind a digest, packed: lines of a short digest and a path, compressed.
type fileList struct {
	Packed []byte `json:"packed"`
	// Used by these histories.
	Owner string `json:"owner"`
}

// namedList is a list that may not have reached the file yet.
type namedList struct {
	name   string
	packed []byte
}

// recentLists is how many of them are kept in memory.
const recentLists = 8

var filesTable = db.Table[fileList]{Name: "files"}

// maxFileList bounds what is remembered of one step's files.
const maxFileList = 8 << 20

// place tells where a step is in a Dockerfile, read from its name: "[build 3/9] RUN make" is step 3 of 9 of the stage build.
type place struct {
	stage  string
	number int
	of     int
	text   string
}

func placeOf(name string) (place, bool) {
	rest, ok := strings.CutPrefix(name, "[")
	if !ok {
		return place{}, false
	}
	head, text, ok := strings.Cut(rest, "] ")
	if !ok {
		return place{}, false
	}
	p := place{text: text}
	if i := strings.LastIndexByte(head, ' '); i >= 0 {
		p.stage, head = strings.TrimSpace(head[:i]), head[i+1:]
	}
	n, of, ok := strings.Cut(head, "/")
	if !ok {
		return place{}, false
	}
	var err1, err2 error
	p.number, err1 = strconv.Atoi(strings.TrimSpace(n))
	p.of, err2 = strconv.Atoi(of)
	return p, err1 == nil && err2 == nil
}

// words name the step in a sentence.
func (p place) words() string {
	if p.stage == "" {
		return fmt.Sprintf("step %d", p.number)
	}
	return fmt.Sprintf("step %d of %s", p.number, p.stage)
}

// last is the history under a key, nil if there is none.
func (c *Cache) last(key string) *history {
	c.mu.Lock()
	h, ok := c.history[key]
	c.mu.Unlock()
	if ok {
		return h
	}
	err := c.db.View(func(tx *db.Tx) (err error) {
		h, err = historyTable.Get(tx, key)
		return err
	})
	if err != nil {
		h = nil // A build whose history cannot be read is a first one.
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.history[key] = h
	return h
}

// keep replaces the history, and the lists of files that it needs.
func (c *Cache) keep(key string, h *history, lists map[string][]byte) {
	needed := h.values()
	c.mu.Lock()
	defer c.mu.Unlock()
	var stale []string
	if old := c.history[key]; old != nil {
		for name := range old.values() {
			if !needed[name] {
				stale = append(stale, name)
			}
		}
	}
	if len(c.history) > keptHistories {
		clear(c.history)
	}
	h.At = time.Now().Unix()
	c.history[key] = h
	maps.DeleteFunc(lists, func(_ string, packed []byte) bool { return packed == nil })
	for name, packed := range lists {
		c.lists = append(c.lists, namedList{name, packed})
	}
	c.lists = c.lists[max(len(c.lists)-recentLists, 0):]
	c.keeps++
	trim := c.keeps%historySpare == 1 // The first time for those of daemons before.
	c.later(func(tx *db.Tx) error {
		if err := dropLists(tx, stale, map[string]bool{key: true}); err != nil {
			return err
		}
		for name, packed := range lists {
			if err := filesTable.Put(tx, name, &fileList{Packed: packed, Owner: key}); err != nil {
				return err
			}
		}
		if err := historyTable.Put(tx, key, h); err != nil || !trim {
			return err
		}
		return trimHistories(tx)
	})
}

// values are those of all parts of all steps: among them the names of lists of files.
func (h *history) values() map[string]bool {
	all := map[string]bool{}
	for _, s := range h.Steps {
		for _, p := range s.Parts {
			all[p.Value] = true
		}
	}
	return all
}

// dropLists deletes those of the lists that belong to some histories.
func dropLists(tx *db.Tx, names []string, owners map[string]bool) error {
	for _, name := range names {
		l, err := filesTable.Get(tx, name)
		if errdefs.IsNotFound(err) || err == nil && !owners[l.Owner] {
			continue // No list, or the same one of another build.
		}
		if err != nil {
			return err
		}
		if err := filesTable.Delete(tx, name); err != nil {
			return err
		}
	}
	return nil
}

// trimHistories drops the oldest histories above the number that is kept, and their lists.
func trimHistories(tx *db.Tx) error {
	type row struct {
		key string
		h   *history
	}
	var all []row
	if err := historyTable.Each(tx, func(key string, h *history) error {
		all = append(all, row{key, h})
		return nil
	}); err != nil || len(all) <= keptHistories {
		return err
	}
	slices.SortFunc(all, func(a, b row) int { return cmp.Compare(a.h.At, b.h.At) })
	gone, lists := map[string]bool{}, map[string]bool{}
	for _, r := range all[:len(all)-keptHistories] {
		gone[r.key] = true
		maps.Copy(lists, r.h.values())
		if err := historyTable.Delete(tx, r.key); err != nil {
			return err
		}
	}
	return dropLists(tx, slices.Collect(maps.Keys(lists)), gone)
}
