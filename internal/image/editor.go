package image

import (
	"slices"

	"github.com/opencontainers/go-digest"
)

// editor changes a list of entries, and sees to it that every image keeps at least one.
type editor struct {
	entries []entry
	served  []served
}

func (ed *editor) find(name string) int {
	return slices.IndexFunc(ed.entries, func(e entry) bool { return e.name == name })
}

func (ed *editor) has(id digest.Digest) bool {
	return slices.ContainsFunc(ed.entries, func(e entry) bool { return e.has(id) })
}

// put adds an entry: a name moves from the image that had it, which stays as a dangling one.
func (ed *editor) put(e entry) {
	if e.parent == "" {
		e.parent = ed.parent(e.id)
	}
	if e.name == "" {
		ed.settle(e)
		return
	}
	if i := ed.find(e.name); i >= 0 {
		old := ed.entries[i]
		ed.entries[i] = e
		ed.settle(old)
	} else {
		ed.entries = append(ed.entries, e)
	}
	// The images have a name now.
	var loose []entry
	ed.entries = slices.DeleteFunc(ed.entries, func(o entry) bool {
		gone := o.name == "" && e.has(o.id)
		if gone && len(o.others) > 0 {
			loose = append(loose, o)
		}
		return gone
	})
	for _, o := range loose {
		ed.settle(o)
	}
}

// settle keeps images that have lost their name, or never had one, unless they are elsewhere.
func (ed *editor) settle(e entry) {
	e.name, e.source = "", ""
	if !ed.has(e.id) {
		ed.entries = append(ed.entries, e)
		return
	}
	for _, p := range e.others {
		if !ed.has(p.id) {
			ed.entries = append(ed.entries, e.alone(p))
		}
	}
}

func (ed *editor) parent(id digest.Digest) digest.Digest {
	for _, e := range ed.entries {
		if e.id == id && e.parent != "" {
			return e.parent
		}
	}
	return ""
}

// untag removes a name; an image that loses its last one stays as a dangling one.
func (ed *editor) untag(name string) {
	i := ed.find(name)
	if i < 0 {
		return
	}
	old := ed.entries[i]
	ed.entries = slices.Delete(ed.entries, i, i+1)
	ed.settle(old)
}

// remove removes an image with all its names.
func (ed *editor) remove(id digest.Digest) {
	ed.entries = slices.DeleteFunc(ed.entries, func(e entry) bool { return e.id == id })
}
