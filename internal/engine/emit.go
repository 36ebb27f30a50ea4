package engine

import (
	"maps"
	"strconv"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	dockernet "github.com/moby/moby/api/types/network"
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

// emitNetworks tells that a container has joined its networks, or left them.
func (e *Engine) emitNetworks(id string, action events.Action, networks map[string]*dockernet.EndpointSettings) {
	for name, ep := range networks {
		if ep == nil {
			continue
		}
		kind := e.networks.Kind(ep.NetworkID)
		e.cfg.Events.Emit(events.NetworkEventType, action, ep.NetworkID, map[string]string{"container": id, "name": name, "type": kind})
	}
}

// emitMounts tells which volumes a container has begun to use.
func (e *Engine) emitMounts(d *definition) {
	for i := range d.Mounts {
		m := &d.Mounts[i]
		if m.Type == mount.TypeVolume {
			e.cfg.Events.Emit(events.VolumeEventType, events.ActionMount, m.Name, map[string]string{
				"container": d.ID, "destination": m.Target, "driver": m.Driver,
				"propagation": string(m.Propagation), "read/write": strconv.FormatBool(!m.ReadOnly),
			})
		}
	}
}

// emitUnmounts tells which volumes it uses no longer.
func (e *Engine) emitUnmounts(d *definition) {
	for i := range d.Mounts {
		if m := &d.Mounts[i]; m.Type == mount.TypeVolume {
			e.cfg.Events.Emit(events.VolumeEventType, events.ActionUnmount, m.Name, map[string]string{"container": d.ID, "driver": m.Driver})
		}
	}
}
