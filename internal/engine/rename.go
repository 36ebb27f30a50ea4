package engine

import (
	"context"
	"fmt"

	"github.com/moby/moby/api/types/events"
)

// Rename gives the container another name.
func (e *Engine) Rename(ctx context.Context, name, newName string) error {
	c, err := e.index.find(name)
	if err != nil {
		return err
	}
	if newName == "" {
		return invalid("Neither old nor new names may be empty")
	}
	newName, err = checkName(newName)
	if err != nil {
		return err
	}
	if err := c.op.acquire(ctx); err != nil {
		return err
	}
	defer c.op.release()
	d, st := c.look()
	if st.Phase == removing {
		return e.index.missing(name)
	}
	if newName == d.Name {
		return invalid("Renaming a container with the same name as its current name")
	}
	if err := e.claim(ctx, newName, func() error { return e.index.rename(c, d.Name, newName) }); err != nil {
		return err
	}
	renamed := *d
	renamed.Name = newName
	if err := e.redefine(c, &renamed); err != nil {
		if back := e.index.rename(c, newName, d.Name); back != nil {
			return fmt.Errorf("%w; and back: %w", err, back)
		}
		return err
	}
	e.networks.Rename(c.id, newName)
	e.emit(c, events.ActionRename, map[string]string{"oldName": "/" + d.Name})
	return nil
}

// redefine replaces the definition, row first. The caller holds the lock.
func (e *Engine) redefine(c *container, d *definition) error {
	_, st := c.look()
	if err := e.ledger.define(d, st); err != nil {
		return err
	}
	c.mu.Lock()
	c.def = d
	c.mu.Unlock()
	return nil
}
