package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"

	"github.com/kistdev/kist/internal/filter"
)

// eventEncoder writes events in the format that the client accepts: JSON texts by line, or RFC 7464 sequences.
type eventEncoder struct {
	w       http.ResponseWriter
	version version
	prefix  []byte
}

func newEventEncoder(w http.ResponseWriter, r *request) *eventEncoder {
	e := &eventEncoder{w: w, version: r.version}
	accept := r.Header.Get("Accept")
	mediaType := "application/json"
	switch {
	case r.version >= 52 && strings.Contains(accept, "application/json-seq"):
		mediaType, e.prefix = "application/json-seq", []byte{0x1e}
	case r.version >= 53 && strings.Contains(accept, "application/jsonl"):
		mediaType = "application/jsonl"
	case r.version >= 52 && strings.Contains(accept, "application/x-ndjson"):
		mediaType = "application/x-ndjson"
	}
	w.Header().Set("Content-Type", mediaType)
	return e
}

func (e *eventEncoder) encode(m events.Message) error {
	var v any = m
	if e.version < 52 {
		old := legacyEvent{}
		if m.Type == events.ContainerEventType || m.Type == events.ImageEventType {
			old = legacyEvent{Status: string(m.Action), ID: m.Actor.ID, From: m.Actor.Attributes["image"]}
		}
		v = struct {
			legacyEvent
			events.Message
		}{old, m}
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = e.w.Write(append(append(e.prefix[:len(e.prefix):len(e.prefix)], raw...), '\n'))
	return err
}

func (s *Server) events(w http.ResponseWriter, r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	since, err := moment(r.query().Get("since"))
	if err != nil {
		return err
	}
	until, err := moment(r.query().Get("until"))
	if err != nil {
		return err
	}
	if !until.IsZero() && since.After(until) {
		return fmt.Errorf("`since` time (%d) cannot be after `until` time (%d): %w", since.Unix(), until.Unix(), errdefs.ErrInvalidArgument)
	}
	past, live := s.Events.Subscribe(r.Context(), since)
	enc := newEventEncoder(w, r)
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w).Flush
	send := func(m events.Message) error {
		if !matches(f, m) || !s.visible(r, m) || !until.IsZero() && m.TimeNano > until.UnixNano() {
			return nil
		}
		return enc.encode(m)
	}
	for _, m := range past {
		if err := send(m); err != nil {
			return err
		}
	}
	if err := flush(); err != nil {
		return err
	}
	var end <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		end = timer.C
	}
	for {
		select {
		case <-end:
			return nil
		case m, ok := <-live:
			if !ok {
				return nil
			}
			if err := send(m); err != nil {
				return err
			}
			if err := flush(); err != nil {
				return err
			}
		}
	}
}

// matches applies docker's event filters. Keys that it does not know are passed over, as docker does.
func matches(f filter.Args, m events.Message) bool {
	return matchesAction(f, string(m.Action)) &&
		f.Exact("type", string(m.Type)) && f.Exact("scope", m.Scope) && f.Labels("label", m.Actor.Attributes) &&
		matchesImage(f, m) && matchesActor(f, m)
}

// matchesAction: "exec_start: sh" is matched by "exec_start" as well, "health_status: healthy" by "health_status".
func matchesAction(f filter.Args, action string) bool {
	short, _, _ := strings.Cut(action, ":")
	return f.Exact("event", action) || f.Exact("event", short)
}

// matchesActor: who says container=web wants events of containers only, whose id or name begins so.
func matchesActor(f filter.Args, m events.Message) bool {
	for _, kind := range []events.Type{
		events.ContainerEventType, events.DaemonEventType, events.PluginEventType, events.VolumeEventType, events.NetworkEventType,
		events.NodeEventType, events.ServiceEventType, events.SecretEventType, events.ConfigEventType,
	} {
		key := string(kind)
		if f.Has(key) && (m.Type != kind || !f.Prefix(key, m.Actor.ID) && !f.Prefix(key, m.Actor.Attributes["name"])) {
			return false
		}
	}
	return true
}

// matchesImage matches an image's own events and those of its containers, by name with or without a tag.
func matchesImage(f filter.Args, m events.Message) bool {
	name := m.Actor.Attributes["image"]
	if m.Type == events.ImageEventType {
		name = m.Actor.Attributes["name"]
	}
	for _, s := range []string{m.Actor.ID, name} {
		if f.Exact("image", s) || f.Exact("image", untagged(s)) {
			return true
		}
	}
	return false
}

func untagged(image string) string {
	if named, err := reference.ParseNormalizedNamed(image); err == nil {
		return reference.FamiliarName(named)
	}
	return image
}
