package engine

import (
	"cmp"
	"context"
	"runtime"
	"slices"

	"github.com/kistdev/kist/internal/cgroup"
)

// Processes are those of all containers that run, at one moment. What a process has used is told, not at which rate: who asks
// again knows that.
type Processes struct {
	// At is the time since the machine started, in nanoseconds.
	At         int64
	CPUs       int
	Memory     int64
	Containers []ContainerProcesses
}

// ContainerProcesses are a container's.
type ContainerProcesses struct {
	ID, Name, Image string
	Processes       []Process
}

// Process is a process as the host sees it.
type Process struct {
	PID, PPID, Threads   int
	User, State, Command string
	// CPU is the time that it has used, in nanoseconds, and Age how long it runs.
	CPU, Age int64
	// RSS is its memory in bytes.
	RSS uint64
}

// Processes lists the processes of the containers that are named, or of all that run.
func (e *Engine) Processes(ctx context.Context, names []string) (*Processes, error) {
	list := e.index.all()
	if len(names) > 0 {
		list = nil
		for _, n := range names {
			c, err := e.index.find(n)
			if err != nil {
				return nil, err
			}
			if _, st := c.look(); !st.Phase.alive() {
				return nil, notRunning(c)
			}
			list = append(list, c)
		}
	}
	now := clock()
	all := &Processes{At: int64(now.uptime), CPUs: runtime.NumCPU(), Memory: e.facts.MemTotal, Containers: []ContainerProcesses{}}
	for _, c := range list {
		d, st := c.look()
		if !st.Phase.alive() {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		one := ContainerProcesses{ID: d.ID, Name: d.Name, Image: d.Config.Image, Processes: []Process{}}
		g, err := cgroup.Load(st.Cgroup)
		if err != nil {
			continue // It has ended meanwhile.
		}
		pids, err := g.Processes()
		if err != nil {
			continue
		}
		for _, pid := range pids {
			p, err := readProcess(pid, now)
			if err != nil {
				continue
			}
			one.Processes = append(one.Processes, Process{
				PID: p.pid, PPID: p.ppid, Threads: p.threads, User: userName(p.uid), State: p.state, Command: p.args,
				CPU: int64(p.cpu), Age: int64(p.age), RSS: p.rss,
			})
		}
		all.Containers = append(all.Containers, one)
	}
	slices.SortFunc(all.Containers, func(a, b ContainerProcesses) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}
