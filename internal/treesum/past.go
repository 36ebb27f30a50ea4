package treesum

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/crypto/blake2b"
)

// Past is what a selection was when it was copied, file by file, so that the next copy can tell what is new.
type Past struct {
	// ID is the caller's: what the copy became.
	ID string
	// Files and Bytes of the selection.
	Files int
	Bytes int64

	entries []byte // for each: what of the path differs from the one before, and a fingerprint
}

// Changes are the files of a selection that are not what they were, or that are new, and the directories that they are in.
type Changes struct {
	// Files and Bytes of what has changed.
	Files int
	Bytes int64

	nodes map[*Node]bool
}

// Has says whether a file has changed, or something in a directory or the directory itself.
func (c *Changes) Has(n *Node) bool { return c.nodes[n] }

const (
	pastMagic  = "kistpast2\n"
	pastSuffix = ".past"
)

// fingerprint tells a file from what it was.
type fingerprint [16]byte

// printer makes fingerprints.
type printer struct{ w describer }

func (p *printer) of(n *Node) fingerprint {
	w := &p.w
	w.node(n, "")
	w.buf = binary.AppendVarint(w.buf, n.Mtime)
	if !n.IsDir() && n.Nlink > 1 { // which files are one counts, too
		w.buf = binary.AppendUvarint(w.buf, uint64(n.Nlink))
		w.buf = binary.AppendUvarint(w.buf, n.Dev)
		w.buf = binary.AppendUvarint(w.buf, n.Ino)
	}
	sum := blake2b.Sum256(w.buf)
	w.buf = w.buf[:0]
	return fingerprint(sum[:16])
}

// walk calls fn for all that is selected, in order, until it returns false.
func (s *Selected) walk(n *Node, name string, fn func(*Node, string) bool) bool {
	if n.gone {
		return true
	}
	if !fn(n, name) {
		return false
	}
	for _, k := range s.Kids(n) {
		if !s.walk(k, join(name, k.Name), fn) {
			return false
		}
	}
	return true
}

// Past describes a selection whose Digest was asked for; nil if it was not. Owners do not count, as in a build context.
func (s *Selected) Past(id string) *Past {
	p := &Past{ID: id}
	prints := printer{describer{root: true}}
	var last string
	known := true
	for _, m := range s.Matches {
		s.walk(m.Node, m.Name, func(n *Node, name string) bool {
			if known = n.summed; !known {
				return false
			}
			p.Files++
			if n.IsRegular() {
				p.Bytes += n.Size
			}
			shared := sharedPrefix(last, name)
			p.entries = binary.AppendUvarint(p.entries, uint64(shared))
			p.entries = binary.AppendUvarint(p.entries, uint64(len(name)-shared))
			p.entries = append(p.entries, name[shared:]...)
			sum := prints.of(n)
			p.entries = append(p.entries, sum[:]...)
			last = name
			return true
		})
	}
	if !known {
		return nil
	}
	return p
}

func sharedPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// pastReader reads the entries of a Past one after the other.
type pastReader struct {
	rest []byte
	name []byte
	sum  fingerprint
	ok   bool // there is an entry
}

// next reads an entry, and reports whether what is left makes sense.
func (r *pastReader) next() bool {
	r.ok = false
	if len(r.rest) == 0 {
		return true
	}
	shared, n := binary.Uvarint(r.rest)
	if n <= 0 || shared > uint64(len(r.name)) {
		return false
	}
	r.rest = r.rest[n:]
	length, n := binary.Uvarint(r.rest)
	if n <= 0 || length > uint64(len(r.rest)-n) || uint64(len(r.rest)-n)-length < uint64(len(r.sum)) {
		return false
	}
	r.rest = r.rest[n:]
	r.name = append(r.name[:shared], r.rest[:length]...)
	r.rest = r.rest[length:]
	copy(r.sum[:], r.rest)
	r.rest = r.rest[len(r.sum):]
	r.ok = true
	return true
}

// Changes compares a selection, whose Digest was asked for, with what it was. It returns nil if something is gone that was
// there: then it is more than changes.
func (p *Past) Changes(s *Selected) *Changes {
	c := &Changes{nodes: make(map[*Node]bool)}
	prints := printer{describer{root: true}}
	old := &pastReader{rest: p.entries}
	if !old.next() {
		return nil
	}
	for _, m := range s.Matches {
		all := s.walk(m.Node, m.Name, func(n *Node, name string) bool {
			if !n.summed {
				return false
			}
			order := 1
			if old.ok {
				order = compareBytes(old.name, name)
			}
			switch {
			case order < 0:
				return false // it is gone
			case order > 0:
				c.add(n)
				return true
			}
			if old.sum != prints.of(n) {
				c.add(n)
			}
			return old.next()
		})
		if !all {
			return nil
		}
	}
	if old.ok {
		return nil
	}
	return c
}

// compareBytes compares paths in the order of a walk.
func compareBytes(a []byte, b string) int {
	n := sharedPrefixBytes(a, b)
	switch {
	case n == len(a) && n == len(b):
		return 0
	case n == len(a):
		return -1 // b is below a, or comes after it all the same
	case n == len(b):
		return 1
	case a[n] == '/':
		return -1 // what is in a directory comes before what follows it
	case b[n] == '/':
		return 1
	case a[n] < b[n]:
		return -1
	}
	return 1
}

func sharedPrefixBytes(a []byte, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

func (c *Changes) add(n *Node) {
	c.Files++
	if n.IsRegular() {
		c.Bytes += n.Size
	}
	for ; n != nil && !c.nodes[n]; n = n.parent {
		c.nodes[n] = true
	}
}

// pasts guards the files of Keep and Past against each other.
var pasts sync.Mutex

// Keep remembers what a selection was under a key, in place of what was remembered.
func (c *Cache) Keep(key string, p *Past) error {
	out := make([]byte, 0, len(pastMagic)+len(p.ID)+len(p.entries)+64)
	out = append(out, pastMagic...)
	out = binary.AppendUvarint(out, uint64(len(p.ID)))
	out = append(out, p.ID...)
	out = binary.AppendUvarint(out, uint64(p.Files))
	out = binary.AppendUvarint(out, uint64(p.Bytes))
	out = append(out, p.entries...)
	sum := blake2b.Sum256(out)
	out = append(out, sum[:]...)
	pasts.Lock()
	defer pasts.Unlock()
	if err := replace(c.pastFile(key), out); err != nil {
		return fmt.Errorf("remember a copy: %w", err)
	}
	return nil
}

// Past is what Keep was given; nil if there is nothing, or nothing whole.
func (c *Cache) Past(key string) *Past {
	pasts.Lock()
	raw, err := os.ReadFile(c.pastFile(key))
	pasts.Unlock()
	if err != nil || len(raw) < len(pastMagic)+blake2b.Size256 || !bytes.HasPrefix(raw, []byte(pastMagic)) {
		return nil
	}
	body := raw[:len(raw)-blake2b.Size256]
	if blake2b.Sum256(body) != [blake2b.Size256]byte(raw[len(body):]) {
		return nil
	}
	body = body[len(pastMagic):]
	var nums [3]uint64
	p := new(Past)
	for i := range nums {
		var n int
		if nums[i], n = binary.Uvarint(body); n <= 0 {
			return nil
		}
		body = body[n:]
		if i > 0 {
			continue
		}
		if nums[0] > uint64(len(body)) {
			return nil
		}
		p.ID, body = string(body[:nums[0]]), body[nums[0]:]
	}
	p.Files, p.Bytes, p.entries = int(nums[1]), int64(nums[2]), body //nolint:gosec // Keep wrote them.
	return p
}

func (c *Cache) pastFile(key string) string {
	return filepath.Join(c.dir, nameOf(key)+pastSuffix)
}

// replace writes a file as a whole; it is not synced.
func replace(name string, raw []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), "*.new")
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
