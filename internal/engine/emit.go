package engine

import (
	"maps"

	"github.com/moby/moby/api/types/events"
)

// emit tells what happened to a container, with docker's attributes: its labels, its image's name, its own name, and
// those of the action.
func (e *Engine) emit(c *container, action events.Action, more map[string]string) {
	d, _ := c.look()
	attributes := make(map[string]string, len(d.Config.Labels)+len(more)+2)
	maps.Copy(attributes, d.Config.Labels)
	attributes["image"] = d.Config.Image
	attributes["name"] = d.Name
	maps.Copy(attributes, more)
	e.cfg.Events.Emit(events.ContainerEventType, action, c.id, attributes)
}
