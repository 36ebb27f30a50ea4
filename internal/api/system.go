package api

import (
	"fmt"
	"net/http"
	"runtime"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
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

func (s *Server) showVersion(w http.ResponseWriter, r *request) error {
	release, offered := kernelRelease(), r.lastKnown().String()
	return writeJSON(w, http.StatusOK, system.VersionResponse{
		Platform: system.PlatformInfo{Name: "kist"},
		Version:  s.Version, APIVersion: offered, MinAPIVersion: oldest.String(),
		Os: runtime.GOOS, Arch: runtime.GOARCH, GitCommit: s.Commit, GoVersion: runtime.Version(), KernelVersion: release,
		Components: []system.ComponentVersion{{
			Name: "Engine", Version: s.Version,
			Details: map[string]string{
				"ApiVersion": offered, "MinAPIVersion": oldest.String(), "Os": runtime.GOOS, "Arch": runtime.GOARCH,
				"GitCommit": s.Commit, "GoVersion": runtime.Version(), "KernelVersion": release, "Experimental": "false",
			},
		}},
	})
}

func (s *Server) info(w http.ResponseWriter, r *request) error {
	info, err := s.Host.Info(r.Context())
	if err == nil {
		err = s.infoFor(r, info)
	}
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

// legacyDiskUsage is what system df was until API 1.51, and what 1.52 still adds.
type legacyDiskUsage struct {
	LayersSize int64
	Images     any // images as the version has them
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
		old.LayersSize, old.Images = du.LayersSize, imagesFor(r.version, du.Images)
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
