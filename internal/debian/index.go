package debian

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// maxStanza bounds one package's paragraph; the largest honest ones have some 100 kB.
const maxStanza = 4 << 20

// maxList bounds a list of packages; Debian's is 50 MB.
const maxList = 2 << 30

// Index finds packages in lists. A list's text stays where it was written to: the index itself keeps only names and places,
// a few megabytes for the sixty thousand packages of a distribution.
type Index struct {
	texts  []io.ReaderAt
	places []place
	first  map[string]int32 // by name: the newest place, and 1
	parsed map[int32]*Package
}

// place is where a paragraph lies.
type place struct {
	off       int64
	size      uint32
	next      int32 // the next place of that name, and 1
	list      uint16
	priority  Priority
	provided  bool // the name is only provided there
	essential bool
}

// NewIndex is an index of nothing.
func NewIndex() *Index {
	return &Index{first: map[string]int32{}, parsed: map[int32]*Package{}}
}

// Add adds a list, whose text is then written to the writer that it returns, and can be read from text at the latest when that
// is closed. Package.List tells lists from each other, by numbers from zero on.
func (x *Index) Add(text io.ReaderAt) io.WriteCloser {
	x.texts = append(x.texts, text)
	return &indexer{x: x, list: uint16(len(x.texts) - 1)} //nolint:gosec // a handful
}

// Names are all packages' names, sorted.
func (x *Index) Names() []string { return slices.Sorted(maps.Keys(x.first)) }

func (x *Index) add(name string, p place) {
	p.next = x.first[name]
	x.places = append(x.places, p)
	x.first[name] = int32(len(x.places)) //nolint:gosec // bounded by the lists' sizes
}

// at goes through the places of a name.
func (x *Index) at(name string, fn func(i int32, p *place)) {
	for i := x.first[name]; i > 0; i = x.places[i-1].next {
		fn(i-1, &x.places[i-1])
	}
}

// Best is the newest version of the package with that very name; nil if there is none.
func (x *Index) Best(name string) (*Package, error) {
	return x.best(name, func(*Package) bool { return true })
}

func (x *Index) best(name string, fit func(*Package) bool) (best *Package, err error) {
	x.at(name, func(i int32, p *place) {
		if p.provided || err != nil {
			return
		}
		var one *Package
		if one, err = x.read(i); err != nil || !fit(one) {
			return
		}
		// Of equal versions that of the list which was given first, which is read last here.
		if best == nil || compareVersions(one.Version, best.Version) >= 0 {
			best = one
		}
	})
	return best, err
}

// providers are the packages that provide a name, the newest version of each.
func (x *Index) providers(name string) (all []*Package, err error) {
	seen := map[string]bool{}
	x.at(name, func(i int32, p *place) {
		if !p.provided || err != nil {
			return
		}
		var one, best *Package
		if one, err = x.read(i); err != nil || seen[one.Name] {
			return
		}
		seen[one.Name] = true
		if best, err = x.Best(one.Name); err == nil && best != nil && best.provides(name) {
			all = append(all, best)
		}
	})
	slices.SortFunc(all, func(a, b *Package) int { return strings.Compare(a.Name, b.Name) })
	return all, err
}

// selection lists the names of packages by their priority, or those that are essential, sorted.
func (x *Index) selection(fit func(p Priority, essential bool) bool) []string {
	var names []string
	for name := range x.first {
		found := false
		x.at(name, func(_ int32, p *place) { found = found || !p.provided && fit(p.priority, p.essential) })
		if found {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// read reads the package at a place.
func (x *Index) read(i int32) (*Package, error) {
	if p := x.parsed[i]; p != nil {
		return p, nil
	}
	at := x.places[i]
	raw := make([]byte, at.size)
	if _, err := x.texts[at.list].ReadAt(raw, at.off); err != nil {
		return nil, fmt.Errorf("read list of packages: %w", err)
	}
	p, err := parsePackage(raw)
	if err != nil {
		return nil, err
	}
	p.List = int(at.list)
	x.parsed[i] = p
	return p, nil
}

// indexer reads a list while it is written.
type indexer struct {
	x    *Index
	list uint16
	off  int64 // of what is in rest
	rest []byte
}

// Write takes a part of the list's text.
func (d *indexer) Write(p []byte) (int, error) {
	n := len(p)
	if len(d.rest) > 0 { // The paragraph that was begun, and no more, is put together.
		end := stanzaEnd(p, d.rest[len(d.rest)-1] == '\n')
		if end < 0 {
			d.rest = append(d.rest, p...)
			return n, d.tooLarge()
		}
		d.rest = append(d.rest, p[:end]...)
		d.stanza(d.rest)
		d.off += int64(len(d.rest))
		d.rest, p = d.rest[:0], p[end:]
	}
	for {
		end := stanzaEnd(p, false)
		if end < 0 {
			d.rest = append(d.rest, p...)
			return n, d.tooLarge()
		}
		d.stanza(p[:end])
		d.off += int64(end)
		p = p[end:]
	}
}

func (d *indexer) tooLarge() error {
	if len(d.rest) > maxStanza || d.off > maxList {
		return fmt.Errorf("list of packages: too large: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

// stanzaEnd finds the end of a paragraph: behind the empty line. Begun says that a line has just ended before p.
func stanzaEnd(p []byte, begun bool) int {
	if begun && len(p) > 0 && p[0] == '\n' {
		return 1
	}
	if i := bytes.Index(p, []byte("\n\n")); i >= 0 {
		return i + 2
	}
	return -1
}

// Close takes the last paragraph, which need not be followed by an empty line.
func (d *indexer) Close() error {
	d.stanza(d.rest)
	d.rest = nil
	return nil
}

// stanza notes a paragraph under its name and those that it provides.
func (d *indexer) stanza(raw []byte) {
	var name, provides []byte
	p := place{off: d.off, size: uint32(len(raw)), list: d.list, priority: Optional} //nolint:gosec // bounded
	for text := raw; len(text) > 0; {
		line := text
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			line, text = text[:i], text[i+1:]
		} else {
			text = nil
		}
		if len(line) < 8 {
			continue
		}
		switch line[0] {
		case 'P':
			if v, ok := bytes.CutPrefix(line, []byte("Package:")); ok {
				name = bytes.TrimSpace(v)
			} else if v, ok := bytes.CutPrefix(line, []byte("Provides:")); ok {
				provides = v
			} else if v, ok := bytes.CutPrefix(line, []byte("Priority:")); ok {
				p.priority = parsePriority(string(bytes.TrimSpace(v)))
			}
		case 'E':
			if v, ok := bytes.CutPrefix(line, []byte("Essential:")); ok {
				p.essential = string(bytes.TrimSpace(v)) == "yes"
			}
		}
	}
	if len(name) == 0 {
		return
	}
	d.x.add(string(name), p)
	if len(provides) > 0 {
		p.provided = true
		for _, group := range parseRelations(string(provides)) {
			d.x.add(group[0].Name, p)
		}
	}
}
