// Package scope is what a socket of narrower scope allows: it holds requests against the scope, without any effect of its own.
//
// A scope allows what is known to be harmless and refuses all else: what a newer API adds is refused until somebody has looked
// at it.
package scope

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
)

// ProjectLabel is the label by which Docker Compose marks what belongs to a project.
const ProjectLabel = "com.docker.compose.project"

// Options say what a socket allows.
type Options struct {
	// Socket is its path, for messages.
	Socket string
	// ReadOnly refuses whatever changes something.
	ReadOnly bool
	// Project is the Compose project that the socket is limited to; empty for all.
	Project string
	// Binds are the paths of this machine that the project's containers may have mounted, each exactly as it stands, with :ro
	// behind it read-only.
	Binds []string
	// Subnets are those in which the project's networks may have addresses of their choice.
	Subnets []netip.Prefix
	// NoPull refuses to pull images.
	NoPull bool
}

// Scope is a checked Options.
type Scope struct {
	Options
	binds map[string]bool // whether it is read-only, by path
}

// New checks the options.
func New(o Options) (*Scope, error) {
	s := &Scope{Options: o, binds: map[string]bool{}}
	if o.Project == "" && len(o.Binds)+len(o.Subnets) > 0 {
		return nil, errors.New("binds and subnets are for a socket that is limited to a project")
	}
	if o.Project == "" && !o.ReadOnly && !o.NoPull {
		return nil, errors.New("want read-only, a project, or both")
	}
	if strings.Trim(o.Project, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
		return nil, fmt.Errorf("project %q: want lower-case letters, digits, dashes and underscores", o.Project)
	}
	for _, b := range o.Binds {
		dir, readOnly := strings.CutSuffix(b, ":ro")
		if !path.IsAbs(dir) || path.Clean(dir) != dir || dir == "/" {
			return nil, fmt.Errorf("bind %q: want a whole path, as /srv/data or /srv/data:ro", b)
		}
		s.binds[dir] = readOnly
	}
	return s, nil
}

// Refuse is the error for what the scope does not allow.
func (s *Scope) Refuse(what string) error {
	kind := "is read-only"
	if s.Project != "" {
		kind = "is limited to the project " + s.Project
	}
	return &fault.Error{
		Code: "socket-scope", What: what + " is not allowed here", Cause: "the socket " + s.Socket + " " + kind,
		Try: "ask whoever runs the daemon; docs/sockets.md says what such a socket allows", Class: errdefs.ErrPermissionDenied,
	}
}

// Owns says whether labels are those of something that belongs to the project.
func (s *Scope) Owns(labels map[string]string) bool {
	return s.Project == "" || labels[ProjectLabel] == s.Project
}

// Mark adds the project's label. Another project's is refused.
func (s *Scope) Mark(labels map[string]string) (map[string]string, error) {
	if s.Project == "" {
		return labels, nil
	}
	if other, ok := labels[ProjectLabel]; ok && other != s.Project {
		return nil, s.Refuse("the label " + ProjectLabel + "=" + other)
	}
	marked := map[string]string{ProjectLabel: s.Project}
	for k, v := range labels {
		marked[k] = v
	}
	return marked, nil
}

// Filter is the value of the label filter that shows what belongs to the project only.
func (s *Scope) Filter() string { return ProjectLabel + "=" + s.Project }
