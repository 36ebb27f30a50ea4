package engine

import (
	"context"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/kistdev/kist/internal/cgroup"
)

// Top lists the container's processes as ps would. No ps is run: its usual arguments are understood here.
func (e *Engine) Top(_ context.Context, name, psArgs string) (docker.TopResponse, error) {
	var r docker.TopResponse
	c, err := e.index.find(name)
	if err != nil {
		return r, err
	}
	_, st := c.look()
	if !st.Phase.alive() {
		return r, notRunning(c)
	}
	columns, err := parsePS(psArgs)
	if err != nil {
		return r, err
	}
	g, err := cgroup.Load(st.Cgroup)
	if err != nil {
		return r, err
	}
	pids, err := g.Processes()
	if err != nil {
		return r, err
	}
	for _, col := range columns {
		r.Titles = append(r.Titles, col.title)
	}
	r.Processes = [][]string{}
	now := clock()
	now.memory = uint64(e.facts.MemTotal)
	for _, pid := range pids {
		p, err := readProcess(pid, now)
		if err != nil { // It has ended.
			continue
		}
		row := make([]string, len(columns))
		for i, col := range columns {
			row[i] = col.show(p)
		}
		r.Processes = append(r.Processes, row)
	}
	e.emit(c, events.ActionTop, nil)
	return r, nil
}

// process is what /proc tells about one.
type process struct {
	pid, ppid, pgid, sid, threads, nice, tty, tpgid int
	uid, gid                                        int
	comm, args, state                               string
	cpu, age                                        time.Duration
	started                                         time.Time
	vsize, rss                                      uint64 // bytes
	priority                                        int
	locked                                          bool
	hostMemory                                      uint64
}

// instant is the present, in both of the kernel's ways of counting.
type instant struct {
	wall   time.Time
	uptime time.Duration
	memory uint64 // the host's
}

func clock() instant {
	i := instant{wall: time.Now()}
	raw, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return i
	}
	first, _, _ := strings.Cut(string(raw), " ")
	seconds, err := strconv.ParseFloat(first, 64)
	if err == nil {
		i.uptime = time.Duration(seconds * float64(time.Second))
	}
	return i
}

// tick is the kernel's unit of processor time in /proc, on every architecture that Go knows.
const tick = 10 * time.Millisecond

func readProcess(pid int, now instant) (*process, error) {
	raw, err := readProc(pid, "stat")
	if err != nil {
		return nil, err
	}
	// The name may hold anything, brackets too.
	open, end := strings.IndexByte(raw, '('), strings.LastIndexByte(raw, ')')
	if open < 0 || end < open {
		return nil, strconv.ErrSyntax
	}
	f := strings.Fields(raw[end+1:])
	if len(f) < 22 {
		return nil, strconv.ErrSyntax
	}
	num := func(i int) int { n, _ := strconv.Atoi(f[i]); return n }
	p := &process{
		pid: pid, comm: raw[open+1 : end], state: f[0], ppid: num(1), pgid: num(2), sid: num(3), tty: num(4), tpgid: num(5),
		cpu: time.Duration(num(11)+num(12)) * tick, priority: num(15), nice: num(16), threads: num(17),
		vsize: uint64(num(20)), rss: uint64(num(21)) * uint64(os.Getpagesize()),
	}
	begin := time.Duration(num(19)) * tick
	p.age = max(now.uptime-begin, 0)
	p.started = now.wall.Add(-p.age)
	p.hostMemory = now.memory
	p.uid, p.gid, p.locked = owner(pid)
	p.args = commandOf(pid, p.comm)
	return p, nil
}

func owner(pid int) (uid, gid int, locked bool) {
	raw, err := readProc(pid, "status")
	if err != nil {
		return 0, 0, false
	}
	for line := range strings.Lines(raw) {
		key, value, _ := strings.Cut(line, ":")
		f := strings.Fields(value)
		if len(f) == 0 {
			continue
		}
		switch key {
		case "Uid":
			uid, _ = strconv.Atoi(f[min(1, len(f)-1)]) // effective
		case "Gid":
			gid, _ = strconv.Atoi(f[min(1, len(f)-1)])
		case "VmLck":
			locked = f[0] != "0"
		}
	}
	return uid, gid, locked
}

func commandOf(pid int, comm string) string {
	raw, err := readProc(pid, "cmdline")
	if err != nil || raw == "" {
		return "[" + comm + "]"
	}
	return strings.ReplaceAll(strings.TrimRight(raw, "\x00"), "\x00", " ")
}

func userName(uid int) string {
	id := strconv.Itoa(uid)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

func groupName(gid int) string {
	id := strconv.Itoa(gid)
	if g, err := user.LookupGroupId(id); err == nil {
		return g.Name
	}
	return id
}
