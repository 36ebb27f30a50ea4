package build

import (
	"bytes"
	"compress/flate"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/db"
)

// filesOf is the packed list behind a digest; nil if it is not remembered.
func (c *Cache) filesOf(name string) []byte {
	var packed []byte
	c.mu.Lock()
	for _, l := range c.lists {
		if l.name == name {
			packed = l.packed
		}
	}
	c.mu.Unlock()
	if packed != nil {
		return packed
	}
	_ = c.db.View(func(tx *db.Tx) error { // What cannot be read is not remembered.
		list, err := filesTable.Get(tx, name)
		if err == nil {
			packed = list.Packed
		}
		return err
	})
	return packed
}

// listing packs a list of files, and tells how it differs from another one, in one pass: 50,000 paths are some hundred kilobytes
// packed, and many megabytes as a map.
type listing struct {
	packed []byte // nil if it is too long to be kept
	words  string
}

// list goes through the files of a part as they are now; before is the packed list of what they were, nil if that is not known.
func (p part) list(ctx context.Context, before []byte) (listing, error) {
	w, err := newPacker()
	if err != nil {
		return listing{}, err
	}
	var diff *fileDiff
	if before != nil {
		diff = newFileDiff(before)
	}
	err = p.files(ctx, func(name string, d digest.Digest) bool {
		w.add(name, d)
		if diff != nil {
			diff.add(name, short(d))
		}
		return true
	})
	if err != nil {
		return listing{}, err
	}
	l := listing{words: diff.words()}
	l.packed, err = w.close()
	return l, err
}

// packer makes a packed list.
type packer struct {
	buf  bytes.Buffer
	z    *flate.Writer
	line []byte
	size int
}

func newPacker() (*packer, error) {
	w := new(packer)
	var err error
	w.z, err = flate.NewWriter(&w.buf, flate.BestSpeed)
	return w, err
}

func (w *packer) add(name string, d digest.Digest) {
	w.size += len(name) + 18
	if w.size > maxFileList || strings.ContainsRune(name, '\n') {
		return
	}
	w.line = fmt.Appendf(w.line[:0], "%s %s\n", short(d), name)
	_, _ = w.z.Write(w.line) // A buffer takes everything.
}

// close ends the list; it is nil if it is too long.
func (w *packer) close() ([]byte, error) {
	if err := w.z.Close(); err != nil || w.size > maxFileList {
		return nil, err
	}
	return w.buf.Bytes(), nil
}

// short is the part of a digest that is kept.
func short(d digest.Digest) string {
	_, hex, _ := strings.Cut(d.String(), ":")
	return hex[:min(16, len(hex))]
}

// unpackFiles is the digest of each file of a packed list.
func unpackFiles(packed []byte) (map[string]string, error) {
	raw, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), 2*maxFileList))
	if err != nil {
		return nil, err
	}
	files := make(map[string]string, bytes.Count(raw, []byte("\n")))
	for line := range strings.Lines(string(raw)) {
		d, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		files[name] = d
	}
	return files, nil
}

// fileDiff compares a list of files with the one before, a file at a time.
type fileDiff struct {
	before               map[string]string
	changed, added, gone tally
}

// tally counts names, and keeps the one that says most.
type tally struct {
	name string
	n    int
}

// add counts a name. A directory counts as changed when its mode or owner did; but what lies higher says more.
func (t *tally) add(name string) {
	t.n++
	d := strings.Count(name, "/") - strings.Count(t.name, "/")
	if t.n == 1 || d < 0 || d == 0 && name < t.name {
		t.name = name
	}
}

// newFileDiff takes a packed list; one that cannot be read gives nil.
func newFileDiff(packed []byte) *fileDiff {
	before, err := unpackFiles(packed)
	if err != nil {
		return nil
	}
	return &fileDiff{before: before}
}

func (f *fileDiff) add(name, d string) {
	switch old, ok := f.before[name]; {
	case !ok:
		f.added.add(name)
	case old != d:
		f.changed.add(name)
	}
	delete(f.before, name)
}

// words say in a few words how the lists differ, once all files were added.
func (f *fileDiff) words() string {
	const unknown = "files it copies changed"
	if f == nil {
		return unknown
	}
	for name := range f.before {
		f.gone.add(name)
	}
	f.before = nil
	others := f.changed.n + f.added.n + f.gone.n - 1
	for _, c := range []struct {
		tally
		verb string
	}{{f.changed, "changed"}, {f.added, "was added"}, {f.gone, "was removed"}} {
		if c.n == 0 {
			continue
		}
		switch others {
		case 0:
			return c.name + " " + c.verb
		case 1:
			return c.name + " " + c.verb + ", and one more file"
		}
		return fmt.Sprintf("%s %s, and %d more files", c.name, c.verb, others)
	}
	return unknown
}
