package engine

import (
	"encoding/json"
	"fmt"
	"slices"

	docker "github.com/moby/moby/api/types/container"
)

// phase is where a container is in its life.
//
//	created ──► running ◄──► paused
//	   │         │  ▲ │         │
//	   │         ▼  │ └────┬────┘
//	   │     restarting    ▼
//	   │         └─────► exited ──► running
//	   └──────────────────┴────► removing ──► (gone)
type phase uint8

const (
	created phase = iota
	running
	paused
	restarting // waits for its next start by the restart policy
	exited
	removing
)

var phaseNames = [...]docker.ContainerState{
	created:    docker.StateCreated,
	running:    docker.StateRunning,
	paused:     docker.StatePaused,
	restarting: docker.StateRestarting,
	exited:     docker.StateExited,
	removing:   docker.StateRemoving,
}

var transitions = [...][]phase{
	created:    {running, removing},
	running:    {paused, restarting, exited},
	paused:     {running, restarting, exited},
	restarting: {running, exited},
	exited:     {running, restarting, removing},
	removing:   {removing}, // after a crash
}

func (p phase) String() string { return string(phaseNames[p]) }

// alive says that the container has a process.
func (p phase) alive() bool { return p == running || p == paused }

// to is the next phase, if there is a way to it.
func (p phase) to(next phase) (phase, error) {
	if !slices.Contains(transitions[p], next) {
		return p, fmt.Errorf("a container that is %s cannot become %s", p, next)
	}
	return next, nil
}

// MarshalJSON writes the name: rows must outlive a change of the numbers.
func (p phase) MarshalJSON() ([]byte, error) { return json.Marshal(phaseNames[p]) }

// UnmarshalJSON reads the name.
func (p *phase) UnmarshalJSON(raw []byte) error {
	var name docker.ContainerState
	if err := json.Unmarshal(raw, &name); err != nil {
		return err
	}
	i := slices.Index(phaseNames[:], name)
	if i < 0 {
		return fmt.Errorf("unknown state %q", name)
	}
	*p = phase(i)
	return nil
}
