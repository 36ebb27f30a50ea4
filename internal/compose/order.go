package compose

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// errSkipped is a service that was not come to, because one that it waits for has failed. The other's failure says why.
var errSkipped = errors.New("a dependency failed")

// inOrder does something for each name as soon as it has been done for those that it waits for, and returns all failures. A name
// that waits for one that failed is skipped. Names that are not listed are not waited for.
func inOrder(ctx context.Context, names []string, waitsFor func(string) []string, do func(context.Context, string) error) error {
	type outcome struct {
		done chan struct{}
		err  error
	}
	all := make(map[string]*outcome, len(names))
	for _, n := range names {
		all[n] = &outcome{done: make(chan struct{})}
	}
	if err := acyclic(names, waitsFor); err != nil {
		return err
	}
	var wg sync.WaitGroup
	for _, n := range names {
		wg.Go(func() {
			own := all[n]
			defer close(own.done)
			for _, d := range waitsFor(n) {
				other, ok := all[d]
				if !ok || d == n {
					continue
				}
				if <-other.done; other.err != nil {
					own.err = errSkipped
				}
			}
			if own.err == nil {
				own.err = do(ctx, n)
			}
		})
	}
	wg.Wait()
	var errs []error
	for _, n := range names {
		if err := all[n].err; err != nil && !errors.Is(err, errSkipped) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// acyclic refuses names that wait for each other: they would do so for ever. Of a file that was checked there are none, but
// labels are anybody's.
func acyclic(names []string, waitsFor func(string) []string) error {
	const open, closed = 1, 2
	state := map[string]int{}
	for _, n := range names {
		state[n] = 0
	}
	var visit func(n string) error
	visit = func(n string) error {
		switch state[n] {
		case open:
			return fmt.Errorf("%s depends on itself, by way of others", n)
		case closed:
			return nil
		}
		state[n] = open
		for _, d := range waitsFor(n) {
			if _, ok := state[d]; ok && d != n {
				if err := visit(d); err != nil {
					return err
				}
			}
		}
		state[n] = closed
		return nil
	}
	for _, n := range names {
		if err := visit(n); err != nil {
			return err
		}
	}
	return nil
}

// reversed is an order backwards: whom a name waits for are those that wait for it.
func reversed(names []string, waitsFor func(string) []string) func(string) []string {
	back := map[string][]string{}
	for _, n := range names {
		for _, d := range waitsFor(n) {
			back[d] = append(back[d], n)
		}
	}
	return func(n string) []string { return back[n] }
}
