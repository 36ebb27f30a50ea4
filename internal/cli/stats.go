package cli

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

// statsRow is a line of stats.
type statsRow struct {
	BlockIO   string
	CPUPerc   string
	Container string
	ID        string
	MemPerc   string
	MemUsage  string
	Name      string
	NetIO     string
	PIDs      string

	cpu         float64 // for sorting and sums
	used, limit uint64
	pids        uint64
}

var statsHeaders = headers{
	"Container": "CONTAINER", "Name": "NAME", "ID": "CONTAINER ID", "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT",
	"MemPerc": "MEM %", "NetIO": "NET I/O", "BlockIO": "BLOCK I/O", "PIDs": "PIDS",
}

const statsTable = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}"

type statsFlags struct {
	all, noStream, noTrunc bool
	format                 string
}

func (a *app) statsCommand() *cobra.Command {
	var f statsFlags
	c := &cobra.Command{Use: "stats [OPTIONS] [CONTAINER...]"}
	c.Flags().BoolVarP(&f.all, "all", "a", false, "Also containers that do not run")
	c.Flags().StringVar(&f.format, "format", "", formatHelp)
	c.Flags().BoolVar(&f.noStream, "no-stream", false, "Print once and end")
	c.Flags().BoolVar(&f.noTrunc, "no-trunc", false, "Do not shorten anything")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if f.format == "" {
			f.format = a.config().Stats
		}
		return a.stats(&f, args)
	}
	return c
}

// statsBoard holds the newest sample of each container.
type statsBoard struct {
	mu   sync.Mutex // guards rows and live
	rows map[string]*statsRow
	// live are the containers whose samples are being followed.
	live map[string]bool
}

func newStatsBoard() *statsBoard {
	return &statsBoard{rows: map[string]*statsRow{}, live: map[string]bool{}}
}

func (b *statsBoard) set(key string, r *statsRow) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rows[key] = r
}

// claim tells whether key is to be followed from now on.
func (b *statsBoard) claim(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.live[key] {
		return false
	}
	b.live[key] = true
	return true
}

// drop ends the following of key.
func (b *statsBoard) drop(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.live, key)
	delete(b.rows, key)
}

// snapshot returns the rows of keys that have a sample, and whether any is followed.
func (b *statsBoard) snapshot(keys []string) (rows []statsRow, live bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range keys {
		if r := b.rows[k]; r != nil {
			rows = append(rows, *r)
		}
	}
	return rows, len(b.live) > 0
}

func (a *app) stats(f *statsFlags, names []string) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	l := &listing{format: f.format, whole: f.noTrunc, table: statsTable, headers: statsHeaders}
	if _, err := parseTemplate(firstOf(l.template())); err != nil {
		return err
	}
	if f.noStream {
		keys, err := a.statsNames(cl, f, names)
		if err != nil {
			return err
		}
		return a.statsOnce(cl, f, l, keys)
	}
	return a.statsLive(cl, f, l, names)
}

func firstOf(s string, _ bool) string { return s }

// statsNames are the containers to show: those named, or those that run.
func (a *app) statsNames(cl *client.Client, f *statsFlags, names []string) ([]string, error) {
	if len(names) > 0 {
		return names, nil
	}
	q := url.Values{}
	if f.all {
		q.Set("all", "1")
	}
	list, err := client.CallJSON[[]container.Summary](cl, client.Get("/containers/json", q))
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, c := range *list {
		ids = append(ids, c.ID)
	}
	return ids, nil
}

func (a *app) statsOnce(cl *client.Client, f *statsFlags, l *listing, keys []string) error {
	board := newStatsBoard()
	var wg sync.WaitGroup
	errs := make([]error, len(keys))
	for i, k := range keys {
		wg.Go(func() {
			s, err := client.CallJSON[container.StatsResponse](cl, client.Get(containerPath(k, "/stats"), url.Values{"stream": {"0"}}))
			if err != nil {
				errs[i] = a.hintContainer(cl, k, err)
				return
			}
			board.set(k, statsRowOf(k, s, f.noTrunc))
		})
	}
	wg.Wait()
	failed := false
	for _, err := range errs {
		if err != nil {
			a.complain(err)
			failed = true
		}
	}
	rows, _ := board.snapshot(keys)
	if len(rows) > 0 || !failed {
		if err := printRows(a.out, l, rows); err != nil {
			return err
		}
	}
	if failed {
		return silent(exitFailure)
	}
	return nil
}

const statsPeriod = 500 * time.Millisecond

// statsLive redraws the table until the named containers have ended. Without names it follows those that come and go.
func (a *app) statsLive(cl *client.Client, f *statsFlags, l *listing, names []string) error {
	board := newStatsBoard()
	var live *statsTableLive
	if a.lively(a.out) {
		screen, err := a.openScreen()
		if err != nil {
			return err
		}
		defer screen.close()
		live = &statsTableLive{a: a, screen: screen, listing: l, usual: f.format == ""}
	}
	for round := 0; ; round++ {
		keys, err := a.statsNames(cl, f, names)
		if err != nil {
			return err
		}
		for _, k := range keys {
			// A named container that ended is not asked for again.
			if (round == 0 || len(names) == 0) && board.claim(k) {
				go a.followStats(cl, f, board, k)
			}
		}
		if live != nil {
			if more, err := live.round(func() ([]statsRow, bool) { return board.snapshot(keys) }); err != nil || !more {
				return err
			}
		} else {
			time.Sleep(statsPeriod)
		}
		rows, followed := board.snapshot(keys)
		if len(names) > 0 && !followed {
			return nil
		}
		if live == nil {
			if err := printRows(a.out, l, rows); err != nil {
				return err
			}
		}
	}
}

// followStats takes a container's samples until it ends.
func (a *app) followStats(cl *client.Client, f *statsFlags, board *statsBoard, key string) {
	defer board.drop(key)
	resp, err := cl.Do(client.Get(containerPath(key, "/stats"), url.Values{"stream": {"1"}}))
	if err != nil {
		a.complain(a.hintContainer(cl, key, err))
		return
	}
	defer resp.Body.Close()
	d := json.NewDecoder(resp.Body)
	for {
		var s container.StatsResponse
		if d.Decode(&s) != nil {
			return // the container ended, or the daemon: the next list tells
		}
		board.set(key, statsRowOf(key, &s, f.noTrunc))
	}
}

func statsRowOf(key string, s *container.StatsResponse, full bool) *statsRow {
	used, limit := memoryUsed(&s.MemoryStats), s.MemoryStats.Limit
	r := &statsRow{Container: key, ID: s.ID, Name: strings.TrimPrefix(s.Name, "/"), PIDs: strconv.FormatUint(s.PidsStats.Current, 10)}
	if !full {
		r.ID = shortID(s.ID)
	}
	if s.Read.IsZero() {
		r.CPUPerc, r.MemPerc, r.MemUsage, r.NetIO, r.BlockIO, r.PIDs = "--", "--", "-- / --", "--", "--", "--"
		return r
	}
	r.cpu, r.used, r.limit, r.pids = cpuPercent(s), used, limit, s.PidsStats.Current
	r.CPUPerc = fmt.Sprintf("%.2f%%", r.cpu)
	r.MemUsage = units.BytesSize(float64(used)) + " / " + units.BytesSize(float64(limit))
	if limit > 0 {
		r.MemPerc = fmt.Sprintf("%.2f%%", float64(used)/float64(limit)*100)
	} else {
		r.MemPerc = "0.00%"
	}
	var rx, tx, read, written uint64
	for _, n := range s.Networks {
		rx, tx = rx+n.RxBytes, tx+n.TxBytes
	}
	for _, e := range s.BlkioStats.IoServiceBytesRecursive {
		switch strings.ToLower(e.Op) {
		case "read":
			read += e.Value
		case "write":
			written += e.Value
		}
	}
	r.NetIO = units.HumanSizeWithPrecision(float64(rx), 3) + " / " + units.HumanSizeWithPrecision(float64(tx), 3)
	r.BlockIO = units.HumanSizeWithPrecision(float64(read), 3) + " / " + units.HumanSizeWithPrecision(float64(written), 3)
	return r
}

// memoryUsed leaves out the page cache that the kernel would give back first.
func memoryUsed(m *container.MemoryStats) uint64 {
	for _, name := range []string{"total_inactive_file", "inactive_file"} {
		if v, ok := m.Stats[name]; ok && v < m.Usage {
			return m.Usage - v
		}
	}
	return m.Usage
}

// cpuPercent is the share of one processor since the sample before.
func cpuPercent(s *container.StatsResponse) float64 {
	used := float64(s.CPUStats.CPUUsage.TotalUsage) - float64(s.PreCPUStats.CPUUsage.TotalUsage)
	whole := float64(s.CPUStats.SystemUsage) - float64(s.PreCPUStats.SystemUsage)
	if used <= 0 || whole <= 0 {
		return 0
	}
	n := float64(s.CPUStats.OnlineCPUs)
	if n == 0 {
		n = float64(len(s.CPUStats.CPUUsage.PercpuUsage))
	}
	return used / whole * n * 100
}
