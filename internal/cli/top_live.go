package cli

import (
	"bytes"
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/kistdev/kist/internal/client"
)

// allProcesses are the daemon's answer: what each process of each container has used until now.
type allProcesses struct {
	At         int64
	CPUs       int
	Memory     int64
	Containers []struct {
		ID, Name, Image string
		Processes       []process
	}
}

type process struct {
	PID, PPID, Threads   int
	User, State, Command string
	CPU, Age             int64
	RSS                  uint64
}

// topRow is a line of the table.
type topRow struct {
	CPUPerc   string
	Command   string
	Container string
	ID        string
	Image     string
	MemPerc   string
	Memory    string
	PID       string
	PPID      string
	State     string
	Threads   string
	Time      string
	User      string

	share float64
	one   process
}

var topHeaders = headers{
	"CPUPerc": "CPU %", "Command": "COMMAND", "Container": "CONTAINER", "ID": "CONTAINER ID", "Image": "IMAGE", "MemPerc": "MEM %", "Memory": "MEMORY",
	"PID": "PID", "PPID": "PPID", "State": "S", "Threads": "THREADS", "Time": "TIME", "User": "USER",
}

const topTable = "{{.Container}}\t{{.PID}}\t{{.User}}\t{{.State}}\t{{.CPUPerc}}\t{{.MemPerc}}\t{{.Memory}}\t{{.Time}}\t{{.Command}}"

const (
	topPeriod = time.Second
	// topGlance is between the two looks of a table that is printed once: what is used at the moment takes two.
	topGlance = 300 * time.Millisecond
)

// processTable shows the processes of several containers.
func (a *app) processTable(f *topFlags, names []string) error {
	if !slices.Contains([]string{"cpu", "memory", "time", "container", "pid"}, f.sort) {
		return fmt.Errorf("invalid --sort %q: must be cpu, memory, time, container or pid", f.sort)
	}
	cl, err := a.client()
	if err != nil {
		return err
	}
	ask := func() (*allProcesses, error) {
		p, err := client.CallJSON[allProcesses](cl, client.Get("/kist/processes", url.Values{"container": names}))
		if err = ownOnly(err, "the table of processes"); err != nil && len(names) > 0 {
			err = a.hintContainer(cl, names[0], err)
		}
		return p, err
	}
	before, err := ask()
	if err != nil {
		return err
	}
	l := &listing{format: f.format, whole: true, table: topTable, headers: topHeaders}
	if f.noStream || f.format != "" || !a.lively(a.out) {
		time.Sleep(topGlance)
		now, err := ask()
		if err != nil {
			return err
		}
		return printRows(a.out, l, f.limit(topRows(before, now, f.sort)))
	}
	return a.topLive(f, l, before, ask)
}

func (f *topFlags) limit(rows []topRow) []topRow {
	if f.lines > 0 && len(rows) > f.lines {
		return rows[:f.lines]
	}
	return rows
}

// topLive draws the table until somebody presses a key.
func (a *app) topLive(f *topFlags, l *listing, before *allProcesses, ask func() (*allProcesses, error)) error {
	s, err := a.openScreen()
	if err != nil {
		return err
	}
	defer s.close()
	wait := topGlance // the first numbers soon
	rows, now := topRows(before, before, f.sort), before
	for {
		if err := a.drawTop(s, f, l, rows, now); err != nil {
			return err
		}
		key := s.rest(wait)
		switch {
		case leaves(key):
			return nil
		case key != 0:
			if order, ok := map[byte]string{'c': "cpu", 'm': "memory", 't': "time", 'n': "container", 'p': "pid"}[key]; ok {
				f.sort = order
				sortProcesses(rows, order)
			}
			continue
		}
		if now, err = ask(); err != nil {
			return err
		}
		rows, before, wait = topRows(before, now, f.sort), now, topPeriod
	}
}

func (a *app) drawTop(s *screen, f *topFlags, l *listing, rows []topRow, now *allProcesses) error {
	var b bytes.Buffer
	height, _ := s.size()
	shown := f.limit(rows)
	hidden := 0
	if room := max(height-5, 1); len(shown) > room {
		shown, hidden = shown[:room], len(shown)-room
	}
	if err := printRows(&b, l, shown); err != nil {
		return err
	}
	table := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	table[0] = a.bold(table[0])
	var share float64
	var used uint64
	for _, r := range rows {
		share, used = share+r.share, used+r.one.RSS
	}
	head := fmt.Sprintf("%s, %s   CPU %.1f%% of %d00%%   memory %s of %s", counted(len(now.Containers), "container"), countedProcesses(len(rows)),
		share, now.CPUs, units.BytesSize(float64(used)), units.BytesSize(float64(now.Memory)))
	foot := "sort: [c]pu [m]emory [t]ime [n]ame [p]id   [q]uit"
	if hidden > 0 {
		foot = fmt.Sprintf("%d more   %s", hidden, foot)
	}
	return s.draw(append(append([]string{head}, table...), a.faint(foot)))
}

func countedProcesses(n int) string {
	if n == 1 {
		return "1 process"
	}
	return strconv.Itoa(n) + " processes"
}

// topRows are the processes of now, with what they used since before.
func topRows(before, now *allProcesses, order string) []topRow {
	was := map[int]process{}
	for _, c := range before.Containers {
		for _, p := range c.Processes {
			was[p.PID] = p
		}
	}
	var rows []topRow
	for _, c := range now.Containers {
		for _, p := range c.Processes {
			r := topRow{
				Container: c.Name, ID: shortID(c.ID), Image: c.Image, PID: strconv.Itoa(p.PID), PPID: strconv.Itoa(p.PPID), User: p.User,
				State: p.State, Threads: strconv.Itoa(p.Threads), Time: cpuTime(p.CPU), Memory: units.BytesSize(float64(p.RSS)),
				Command: stripControl(p.Command), one: p,
			}
			r.share = cpuShare(was[p.PID], p, now.At-before.At)
			r.CPUPerc = fmt.Sprintf("%.1f%%", r.share)
			r.MemPerc = "0.0%"
			if now.Memory > 0 {
				r.MemPerc = fmt.Sprintf("%.1f%%", float64(p.RSS)/float64(now.Memory)*100)
			}
			rows = append(rows, r)
		}
	}
	sortProcesses(rows, order)
	return rows
}

// cpuShare is what a process used of one processor in the time that passed; over its whole life if it was not there before.
func cpuShare(was, is process, passed int64) float64 {
	used := is.CPU - was.CPU
	if was.PID == 0 || is.Age < passed || passed <= 0 || used < 0 {
		used, passed = is.CPU, is.Age
	}
	if passed <= 0 {
		return 0
	}
	return float64(used) / float64(passed) * 100
}

func sortProcesses(rows []topRow, order string) {
	slices.SortStableFunc(rows, func(a, b topRow) int {
		first := 0
		switch order {
		case "cpu":
			first = cmp.Compare(b.share, a.share)
		case "memory":
			first = cmp.Compare(b.one.RSS, a.one.RSS)
		case "time":
			first = cmp.Compare(b.one.CPU, a.one.CPU)
		case "container":
			first = cmp.Compare(a.Container, b.Container)
		}
		return cmp.Or(first, cmp.Compare(a.one.PID, b.one.PID))
	})
}

// cpuTime is minutes, seconds and hundredths, as top shows it.
func cpuTime(ns int64) string {
	d := time.Duration(ns)
	return fmt.Sprintf("%d:%05.2f", int(d.Minutes()), (d % time.Minute).Seconds())
}
