package cgroup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// removeTime bounds Remove where the caller's context does not: a killed process that sits in the kernel keeps its group.
const removeTime = 10 * time.Second

// Remove removes the group, killing what is left in it.
func (g *Group) Remove(ctx context.Context) error {
	if g.unit != nil {
		g.unit.release()
	}
	// The usual case: everything has ended, and one call for each directory does it.
	var left []*hierarchy
	for _, d := range g.dirs {
		if err := d.rmdir(g.rel); err != nil && !absent(err) {
			if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
				return fmt.Errorf("removing cgroup %s/%s: %w", d.path, g.rel, err)
			}
			left = append(left, d)
		}
	}
	if len(left) > 0 {
		ctx, cancel := context.WithTimeout(ctx, removeTime)
		defer cancel()
		if err := g.removeBusy(ctx, left); err != nil {
			return err
		}
	}
	if g.unit != nil {
		return g.unit.stop(ctx)
	}
	return nil
}

func (g *Group) removeBusy(ctx context.Context, left []*hierarchy) error {
	rest := *g
	rest.dirs = left
	if err := rest.kill(ctx); err != nil {
		return err
	}
	for _, d := range left {
		err := g.poll(ctx, func() (bool, error) { return d.removeTree(g.rel) })
		if err != nil {
			return fmt.Errorf("removing cgroup %s/%s: %w", d.path, g.rel, err)
		}
	}
	return nil
}

// removeTree removes a group with those below it; it is false if the kernel still holds one.
func (d *hierarchy) removeTree(rel string) (bool, error) {
	done := true
	err := d.walk(rel, func(rel string) error {
		switch err := d.rmdir(rel); {
		case err == nil, absent(err):
		case errors.Is(err, unix.EBUSY), errors.Is(err, unix.ENOTEMPTY):
			done = false
		default:
			return err
		}
		return nil
	})
	return done, err
}

// Prune removes the group that containers were below, if there are none left. A daemon keeps its own; who has made one for a
// while, as tests do, takes it away with this.
func Prune(parent string) error {
	h, err := system()
	if err != nil {
		return err
	}
	g, err := h.group(parent)
	if err != nil {
		return err
	}
	for _, d := range h.all() {
		if err := d.rmdir(g.rel); err != nil && !absent(err) && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
			return fmt.Errorf("removing cgroup %s/%s: %w", d.path, g.rel, err)
		}
	}
	return nil
}
