package engine

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"

	"github.com/kistdev/kist/internal/logfile"
)

// Inspect is docker inspect.
func (e *Engine) Inspect(ctx context.Context, name string, size bool) (*Inspection, error) {
	c, err := e.index.find(name)
	if err != nil {
		return nil, err
	}
	d, st := c.look()
	path, args := d.command()
	r := &Inspection{ID: d.ID, Created: d.Created.Format(time.RFC3339Nano), Path: path, Args: args, State: stateOf(st, c.health())}
	r.InspectResponse = docker.InspectResponse{
		Image: d.Image.String(), LogPath: e.shownLog(d),
		ResolvConfPath: e.home(d.ID) + "/resolv.conf", HostnamePath: e.home(d.ID) + "/hostname", HostsPath: e.home(d.ID) + "/hosts",
		Name: "/" + d.Name, RestartCount: st.Restarts, Driver: "overlay2", Platform: d.Platform,
		ExecIDs: e.execs.of(d.ID), HostConfig: d.HostConfig, Config: d.Config, Mounts: []docker.MountPoint{},
		NetworkSettings: e.networkSettings(d, st), ImageManifestDescriptor: d.Manifest,
		GraphDriver: e.graphDriver(d, st),
	}
	r.Secrets = d.Secrets
	if e.host.AppArmor && !d.HostConfig.Privileged {
		r.AppArmorProfile = "docker-default"
	}
	for i := range d.Mounts {
		r.Mounts = append(r.Mounts, d.Mounts[i].shown())
	}
	if size {
		rw, root, err := e.size(ctx, d)
		if err != nil {
			return nil, err
		}
		r.SizeRw, r.SizeRootFs = &rw, &root
	}
	return r, nil
}

// moment is how docker writes a time; one that never was is the year 1.
func moment(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func stateOf(st state, h *docker.Health) *State {
	return &State{KistExit: st.ended(), State: &docker.State{
		Status:  phaseNames[st.Phase],
		Running: st.Phase.alive() || st.Phase == restarting, Paused: st.Phase == paused, Restarting: st.Phase == restarting,
		OOMKilled: st.OOMKilled, Pid: st.PID, ExitCode: st.ExitCode, Error: st.Error,
		StartedAt: moment(st.StartedAt), FinishedAt: moment(st.FinishedAt), Health: h,
	}}
}

func (e *Engine) networkSettings(d *definition, st state) *docker.NetworkSettings {
	s := &docker.NetworkSettings{Ports: network.PortMap{}, Networks: e.networksOf(d, st)}
	if st.Phase.alive() {
		s.SandboxID, s.SandboxKey = d.ID, fmt.Sprintf("/proc/%d/ns/net", st.PID)
		for p := range d.Config.ExposedPorts {
			s.Ports[p] = nil
		}
		maps.Copy(s.Ports, st.Ports)
	}
	return s
}

// shownLog is the log's path, for those drivers that have one in docker's format.
func (e *Engine) shownLog(d *definition) string {
	if d.HostConfig.LogConfig.Type != "json-file" {
		return ""
	}
	return e.logPath(d.ID)
}

func (e *Engine) logSize(d *definition) int64 {
	l, err := e.logConfig(d)
	if err != nil {
		return 0
	}
	n, err := logfile.Size(l)
	if err != nil {
		return 0
	}
	return n
}

// graphDriver tells where the layers are. A volatile one that is mounted is left alone.
func (e *Engine) graphDriver(d *definition, st state) *storage.DriverData {
	data := map[string]string{"ID": d.ID}
	if !d.HostConfig.AutoRemove || !st.Phase.alive() {
		if o, err := e.cfg.Layers.Rootfs(d.ID); err == nil {
			data["UpperDir"], data["WorkDir"], data["LowerDir"] = o.Upper, o.Work, strings.Join(o.Lower, ":")
		}
	}
	return &storage.DriverData{Name: "overlay2", Data: data}
}
