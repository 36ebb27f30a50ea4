package cdi

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
)

// edits are what a device changes in a container's specification.
type edits struct {
	Env         []string     `json:"env" yaml:"env"`
	DeviceNodes []deviceNode `json:"deviceNodes" yaml:"deviceNodes"`
	NetDevices  []netDevice  `json:"netDevices" yaml:"netDevices"`
	Hooks       []hook       `json:"hooks" yaml:"hooks"`
	Mounts      []mount      `json:"mounts" yaml:"mounts"`
	IntelRdt    *intelRdt    `json:"intelRdt" yaml:"intelRdt"`
	GIDs        []uint32     `json:"additionalGids" yaml:"additionalGids"`
}

type deviceNode struct {
	Path        string       `json:"path" yaml:"path"`
	HostPath    string       `json:"hostPath" yaml:"hostPath"`
	Type        string       `json:"type" yaml:"type"`
	Major       int64        `json:"major" yaml:"major"`
	Minor       int64        `json:"minor" yaml:"minor"`
	FileMode    *os.FileMode `json:"fileMode" yaml:"fileMode"`
	Permissions string       `json:"permissions" yaml:"permissions"`
	UID         *uint32      `json:"uid" yaml:"uid"`
	GID         *uint32      `json:"gid" yaml:"gid"`
}

type mount struct {
	HostPath      string   `json:"hostPath" yaml:"hostPath"`
	ContainerPath string   `json:"containerPath" yaml:"containerPath"`
	Options       []string `json:"options" yaml:"options"`
	Type          string   `json:"type" yaml:"type"`
}

type hook struct {
	Name    string   `json:"hookName" yaml:"hookName"`
	Path    string   `json:"path" yaml:"path"`
	Args    []string `json:"args" yaml:"args"`
	Env     []string `json:"env" yaml:"env"`
	Timeout *int     `json:"timeout" yaml:"timeout"`
}

// intelRdt and netDevice are read so that they can be refused by name when such a device is asked for.
type intelRdt struct {
	ClosID           string   `json:"closID" yaml:"closID"`
	L3CacheSchema    string   `json:"l3CacheSchema" yaml:"l3CacheSchema"`
	MemBwSchema      string   `json:"memBwSchema" yaml:"memBwSchema"`
	Schemata         []string `json:"schemata" yaml:"schemata"`
	EnableMonitoring bool     `json:"enableMonitoring" yaml:"enableMonitoring"`
	EnableCMT        bool     `json:"enableCMT" yaml:"enableCMT"`
	EnableMBM        bool     `json:"enableMBM" yaml:"enableMBM"`
}

type netDevice struct {
	HostInterface string `json:"hostInterfaceName" yaml:"hostInterfaceName"`
	Name          string `json:"name" yaml:"name"`
}

func (e *edits) empty() bool {
	return len(e.Env)+len(e.DeviceNodes)+len(e.NetDevices)+len(e.Hooks)+len(e.Mounts)+len(e.GIDs) == 0 && e.IntelRdt == nil
}

func (e *edits) check() error {
	for _, v := range e.Env {
		if k, _, ok := strings.Cut(v, "="); !ok || k == "" || strings.ContainsRune(v, 0) {
			return fmt.Errorf("invalid variable %q", v)
		}
	}
	for i := range e.DeviceNodes {
		if err := e.DeviceNodes[i].check(); err != nil {
			return err
		}
	}
	for i := range e.Mounts {
		if m := &e.Mounts[i]; !clean(m.ContainerPath) || m.ContainerPath == "/" || m.HostPath == "" {
			return fmt.Errorf("invalid mount of %q at %q", m.HostPath, m.ContainerPath)
		}
	}
	for i := range e.Hooks {
		if err := e.Hooks[i].check(); err != nil {
			return err
		}
	}
	if r := e.IntelRdt; r != nil && (r.ClosID == "." || r.ClosID == ".." || len(r.ClosID) >= 4096 || strings.ContainsAny(r.ClosID, "/\n")) {
		return errors.New("invalid closID of intelRdt")
	}
	return nil
}

func (d *deviceNode) check() error {
	if !clean(d.Path) || d.HostPath != "" && !clean(d.HostPath) {
		return fmt.Errorf("invalid path %q of a device node", d.Path)
	}
	switch d.Type {
	case "", "b", "c", "u", "p":
	default:
		return fmt.Errorf("invalid type %q of the device node %s", d.Type, d.Path)
	}
	if strings.Trim(d.Permissions, "rwm") != "" || len(d.Permissions) > 3 {
		return fmt.Errorf("invalid permissions %q of the device node %s", d.Permissions, d.Path)
	}
	return nil
}

func (h *hook) check() error {
	switch h.Name {
	case "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop":
	default:
		return fmt.Errorf("unknown hook %q", h.Name)
	}
	if !path.IsAbs(h.Path) {
		return fmt.Errorf("invalid path %q of a hook", h.Path)
	}
	if h.Timeout != nil && *h.Timeout <= 0 {
		return fmt.Errorf("invalid timeout of the hook %s", h.Path)
	}
	return nil
}

// clean says that a path is absolute and has no ".." in it: one that is joined to a root must not leave it.
func clean(p string) bool {
	return path.IsAbs(p) && !strings.ContainsRune(p, 0) && path.Clean(p) == strings.TrimRight(p, "/") || p == "/"
}
