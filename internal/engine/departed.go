package engine

import "sync"

// departedKept is how many containers' exit codes outlive them.
const departedKept = 1024

// departed remembers how the containers ended that were removed last at their exit: a client whose daemon died while it waited
// asks the next one, which may have removed the container already, and died as well. The ledger has a copy.
type departed struct {
	mu    sync.Mutex // guards all below
	codes map[string]int
	ends  map[string]*Ending // of those of which there is more to say; in memory only
	order []string           // the ids, the oldest at next once it is full
	next  int
}

func newDeparted() *departed { return &departed{codes: map[string]int{}, ends: map[string]*Ending{}} }

// add returns the container that is forgotten for it, if there is one.
func (d *departed) add(id string, code int) (forgotten string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.codes[id]; known {
		d.codes[id] = code
		return ""
	}
	if len(d.order) < departedKept {
		d.order = append(d.order, id)
	} else {
		forgotten = d.order[d.next]
		delete(d.codes, forgotten)
		delete(d.ends, forgotten)
		d.order[d.next] = id
		d.next = (d.next + 1) % departedKept
	}
	d.codes[id] = code
	return forgotten
}

// explain remembers why a container ended that is remembered.
func (d *departed) explain(id string, end *Ending) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.codes[id]; known && end != nil {
		d.ends[id] = end
	}
}

// end is why a container ended, by its full id; nil where there is nothing to say.
func (d *departed) end(id string) *Ending {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ends[id]
}

// code is that of a container by its full id.
func (d *departed) code(id string) (int, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	code, ok := d.codes[id]
	return code, ok
}
