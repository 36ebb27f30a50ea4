package keeper

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kistdev/kist/internal/task"
)

// profiles are the seccomp profiles that clients have sent, by key, on disk and in memory.
type profiles struct {
	dir string

	mu    sync.Mutex // guards known
	known map[string]*specs.LinuxSeccomp
}

func (ps *profiles) add(m task.ProfileMessage) error {
	if !validName(m.Key) {
		return fmt.Errorf("seccomp profile: key %q", m.Key)
	}
	var p specs.LinuxSeccomp
	if err := json.Unmarshal(m.Seccomp, &p); err != nil {
		return fmt.Errorf("seccomp profile: %w", err)
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if _, ok := ps.known[m.Key]; ok {
		return nil
	}
	if err := writeJSON(filepath.Join(ps.dir, m.Key), m.Seccomp); err != nil {
		return fmt.Errorf("seccomp profile: %w", err)
	}
	ps.keepLocked(m.Key, &p)
	return nil
}

func (ps *profiles) keepLocked(key string, p *specs.LinuxSeccomp) {
	if ps.known == nil || len(ps.known) >= 64 { // custom ones come and go: the files remain
		ps.known = map[string]*specs.LinuxSeccomp{}
	}
	ps.known[key] = p
}

// complete puts a message's profile back into its spec.
func (ps *profiles) complete(m *task.CreateMessage) error {
	if m.Profile == "" || m.Spec == nil || m.Spec.Linux == nil {
		return nil
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p, ok := ps.known[m.Profile]; ok {
		m.Spec.Linux.Seccomp = p
		return nil
	}
	if !validName(m.Profile) {
		return fmt.Errorf("seccomp profile: key %q", m.Profile)
	}
	var p specs.LinuxSeccomp
	if err := readJSON(filepath.Join(ps.dir, m.Profile), &p); err != nil {
		return fmt.Errorf("seccomp profile: %w", err)
	}
	ps.keepLocked(m.Profile, &p)
	m.Spec.Linux.Seccomp = &p
	return nil
}
