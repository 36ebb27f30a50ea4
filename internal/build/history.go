package build

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/db"
)

// history is what the last build of a Dockerfile consisted of.
type history struct {
	Steps []stepRow `json:"steps"`
}

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
	needed := map[string]bool{}
	for _, s := range h.Steps {
		for _, p := range s.Parts {
			needed[p.Value] = true
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.history) > 1000 {
		clear(c.history)
	}
	c.history[key] = h
	maps.DeleteFunc(lists, func(_ string, packed []byte) bool { return packed == nil })
	for name, packed := range lists {
		c.lists = append(c.lists, namedList{name, packed})
	}
	c.lists = c.lists[max(len(c.lists)-recentLists, 0):]
	c.later(func(tx *db.Tx) error {
		var stale []string
		if len(lists) > 0 {
			if err := filesTable.Each(tx, func(name string, l *fileList) error {
				if l.Owner == key && !needed[name] {
					stale = append(stale, name)
				}
				return nil
			}); err != nil {
				return err
			}
		}
		for _, name := range stale {
			if err := filesTable.Delete(tx, name); err != nil {
				return err
			}
		}
		for name, packed := range lists {
			if err := filesTable.Put(tx, name, &fileList{Packed: packed, Owner: key}); err != nil {
				return err
			}
		}
		return historyTable.Put(tx, key, h)
	})
}
