// Package undo keeps the compensations of an operation that has several effects, and runs them in reverse when a later
// step fails.
//
//	var u undo.Stack
//	defer u.Unwind(ctx)
//	... effect ...
//	u.Push("unmount root", func(ctx context.Context) error { return unmount(dir) })
//	...
//	u.Release() // everything succeeded: nothing is undone
package undo

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Timeout bounds one Unwind as a whole. Compensations must end even when the request that caused them was cancelled.
const Timeout = 30 * time.Second

type step struct {
	name string
	run  func(context.Context) error
}

// Stack is a list of compensations. The zero value is ready to use. It is not safe for concurrent use.
type Stack struct {
	steps []step
}

// Push adds a compensation. The name is used in the error that Unwind returns when the compensation fails.
func (s *Stack) Push(name string, run func(context.Context) error) {
	s.steps = append(s.steps, step{name, run})
}

// Release forgets all compensations: the operation succeeded.
func (s *Stack) Release() { s.steps = nil }

// Unwind runs the compensations, last one first, and empties the stack. All of them run even when some fail; their
// errors are joined. They get a context that outlives a cancelled ctx, bounded by Timeout.
func (s *Stack) Unwind(ctx context.Context) error {
	if len(s.steps) == 0 {
		return nil
	}
	steps := s.steps
	s.steps = nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), Timeout)
	defer cancel()
	var errs []error
	for i := len(steps) - 1; i >= 0; i-- {
		if err := steps[i].run(ctx); err != nil {
			errs = append(errs, fmt.Errorf("undo %s: %w", steps[i].name, err))
		}
	}
	return errors.Join(errs...)
}
