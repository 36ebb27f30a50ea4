package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/filter"
)

func (s *Server) routeSystem() {
	s.handle("GET /_ping", s.ping) // HEAD comes with GET.
	s.handle("GET /version", s.showVersion)
	s.handle("GET /info", s.info)
	s.handle("GET /events", s.events)
	s.handle("GET /system/df", s.diskUsage)
	s.handle("POST /auth", s.auth)
}

func (s *Server) ping(w http.ResponseWriter, r *request) error {
	h := w.Header()
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Builder-Version", "1")
	h.Set("Swarm", "inactive")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", "2")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	_, err := w.Write([]byte("OK"))
	return err
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

func (s *Server) showVersion(w http.ResponseWriter, _ *request) error {
	release := kernelRelease()
	return writeJSON(w, http.StatusOK, system.VersionResponse{
		Platform: system.PlatformInfo{Name: "kist"},
		Version:  s.Version, APIVersion: newest.String(), MinAPIVersion: oldest.String(),
		Os: runtime.GOOS, Arch: runtime.GOARCH, GitCommit: s.Commit, GoVersion: runtime.Version(), KernelVersion: release,
		Components: []system.ComponentVersion{{
			Name: "Engine", Version: s.Version,
			Details: map[string]string{
				"ApiVersion": newest.String(), "MinAPIVersion": oldest.String(), "Os": runtime.GOOS, "Arch": runtime.GOARCH,
				"GitCommit": s.Commit, "GoVersion": runtime.Version(), "KernelVersion": release, "Experimental": "false",
			},
		}},
	})
}

func (s *Server) info(w http.ResponseWriter, r *request) error {
	info, err := s.Host.Info(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, info)
}

func (s *Server) auth(w http.ResponseWriter, r *request) error {
	var a registry.AuthConfig
	if err := r.decode(&a, false); err != nil {
		return err
	}
	status, token, err := s.Images.Login(r.Context(), a)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, registry.AuthResponse{Status: status, IdentityToken: token})
}

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
	if err := f.Validate("config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope",
		"secret", "service", "type", "volume"); err != nil {
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
	past, live := s.Events.Subscribe(r.Context(), since)
	enc := newEventEncoder(w, r)
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w).Flush
	send := func(m events.Message) error {
		if !matches(f, m) || !until.IsZero() && m.TimeNano > until.UnixNano() {
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

// matches applies docker's event filters.
func matches(f filter.Args, m events.Message) bool {
	attr := m.Actor.Attributes
	action := string(m.Action)
	short, _, _ := strings.Cut(action, ":") // "exec_start: sh" is matched by "exec_start" as well.
	object := func(key string, typ events.Type) bool {
		if !f.Has(key) {
			return true
		}
		return m.Type == typ && (f.Match(key, m.Actor.ID) || f.Match(key, attr["name"]))
	}
	isImage := !f.Has("image") || f.Match("image", m.Actor.ID) || f.Match("image", attr["name"]) || f.Match("image", attr["image"])
	isContainer := !f.Has("container") || m.Type == events.ContainerEventType && (f.Prefix("container", m.Actor.ID) || hasPrefixOf(f["container"], m.Actor.ID) || f.Match("container", attr["name"]))
	return f.Exact("type", string(m.Type)) &&
		(f.Exact("event", action) || f.Exact("event", short)) &&
		f.Exact("scope", m.Scope) &&
		f.Labels("label", without(attr, "name")) &&
		isContainer && isImage &&
		object("network", events.NetworkEventType) &&
		object("volume", events.VolumeEventType) &&
		object("daemon", events.DaemonEventType) &&
		object("plugin", events.PluginEventType) &&
		!f.Has("config") && !f.Has("node") && !f.Has("secret") && !f.Has("service")
}

// hasPrefixOf says whether id starts with one of the (short) ids.
func hasPrefixOf(short []string, id string) bool {
	for _, p := range short {
		if p != "" && strings.HasPrefix(id, p) {
			return true
		}
	}
	return false
}

// legacyDiskUsage is what system df was until API 1.51, and what 1.52 still adds.
type legacyDiskUsage struct {
	LayersSize int64
	Images     []image.Summary
	Containers []container.Summary
	Volumes    []volume.Volume
	BuildCache []build.CacheRecord
}

func (s *Server) diskUsage(w http.ResponseWriter, r *request) error {
	for _, typ := range r.query()["type"] {
		switch typ {
		case "container", "image", "volume", "build-cache":
		default:
			return fmt.Errorf("unknown object type: %s: %w", typ, errdefs.ErrInvalidArgument)
		}
	}
	du, err := s.Host.DiskUsage(r.Context())
	if err != nil {
		return err
	}
	asked := func(typ string) bool {
		types := r.query()["type"]
		return len(types) == 0 || filter.Args{"t": types}.Exact("t", typ)
	}
	caches, err := s.cacheRecords(r.Context())
	if err != nil {
		return err
	}
	old := legacyDiskUsage{BuildCache: []build.CacheRecord{}}
	var now system.DiskUsage
	verbose := r.boolean("verbose")
	if asked("image") {
		old.LayersSize, old.Images = du.LayersSize, orEmpty(du.Images)
		now.ImageUsage = &image.DiskUsage{TotalCount: int64(len(du.Images)), TotalSize: du.LayersSize, Reclaimable: du.Reclaimable}
		for _, i := range du.Images {
			if i.Containers > 0 {
				now.ImageUsage.ActiveCount++
			}
		}
		if verbose {
			now.ImageUsage.Items = du.Images
		}
	}
	if asked("container") {
		old.Containers = orEmpty(du.Containers)
		now.ContainerUsage = containerUsage(du.Containers, verbose)
	}
	if asked("volume") {
		old.Volumes = orEmpty(du.Volumes)
		now.VolumeUsage = volumeUsage(du.Volumes, verbose)
	}
	if asked("build-cache") {
		old.BuildCache = caches
		now.BuildCacheUsage = cacheUsage(caches, verbose)
	}
	switch {
	case r.version < 52:
		return writeJSON(w, http.StatusOK, old)
	case r.version == 52 && !verbose:
		return writeJSON(w, http.StatusOK, struct {
			legacyDiskUsage
			system.DiskUsage
		}{old, now})
	default:
		return writeJSON(w, http.StatusOK, now)
	}
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func containerUsage(list []container.Summary, verbose bool) *container.DiskUsage {
	u := &container.DiskUsage{TotalCount: int64(len(list))}
	for _, c := range list {
		u.TotalSize += c.SizeRw
		switch c.State {
		case container.StateRunning, container.StatePaused, container.StateRestarting:
			u.ActiveCount++
		default:
			u.Reclaimable += c.SizeRw
		}
	}
	if verbose {
		u.Items = list
	}
	return u
}

func volumeUsage(list []volume.Volume, verbose bool) *volume.DiskUsage {
	u := &volume.DiskUsage{TotalCount: int64(len(list))}
	for _, v := range list {
		if v.UsageData == nil {
			continue
		}
		u.TotalSize += v.UsageData.Size
		if v.UsageData.RefCount > 0 {
			u.ActiveCount++
		} else {
			u.Reclaimable += v.UsageData.Size
		}
	}
	if verbose {
		u.Items = list
	}
	return u
}
