package cli

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/docker/go-units"
)

// statsTableLive is the table of stats on a terminal: sorted, as wide as fits, with a sum and the keys.
type statsTableLive struct {
	a       *app
	screen  *screen
	listing *listing
	// usual says that nobody asked for another format: columns may be left out then.
	usual bool
	order byte
}

// statsTables are the columns, from all to those that matter most.
var statsTables = []string{
	statsTable,
	"{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.PIDs}}",
	"{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}",
	"{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}",
	"{{.Name}}\t{{.CPUPerc}}\t{{.MemPerc}}",
}

// round draws the newest rows for a while, and says whether to go on.
func (t *statsTableLive) round(rows func() ([]statsRow, bool)) (bool, error) {
	until := time.Now().Add(statsPeriod)
	for {
		list, _ := rows()
		if err := t.draw(list); err != nil {
			return false, err
		}
		switch key := t.screen.rest(max(time.Until(until), 0)); {
		case leaves(key):
			return false, nil
		case key == 0:
			return true, nil
		case strings.IndexByte("cmnpi", key) >= 0:
			t.order = key
		}
	}
}

// sorted orders rows by the key that was pressed; as docker lists them until then.
func (t *statsTableLive) sorted(rows []statsRow) []statsRow {
	slices.SortStableFunc(rows, func(a, b statsRow) int {
		switch t.order {
		case 'c':
			return cmp.Compare(b.cpu, a.cpu)
		case 'm':
			return cmp.Compare(b.used, a.used)
		case 'p':
			return cmp.Compare(b.pids, a.pids)
		case 'n':
			return cmp.Compare(a.Name, b.Name)
		case 'i':
			return cmp.Compare(a.ID, b.ID)
		}
		return 0
	})
	return rows
}

func (t *statsTableLive) draw(rows []statsRow) error {
	rows = t.sorted(rows)
	lines, err := t.lines(rows)
	if err != nil {
		return err
	}
	if t.usual && len(lines) > 0 {
		var cpu float64
		var used uint64
		for _, r := range rows {
			cpu, used = cpu+r.cpu, used+r.used
		}
		lines[0] = t.a.bold(lines[0])
		sum := fmt.Sprintf("%s, CPU %.1f%%, memory %s", counted(len(rows), "container"), cpu, units.BytesSize(float64(used)))
		lines = append(lines, t.a.faint(sum+"   sort: [c]pu [m]emory [n]ame [p]ids   [q]uit"))
	}
	return t.screen.draw(lines)
}

// lines is the widest table that fits.
func (t *statsTableLive) lines(rows []statsRow) ([]string, error) {
	_, cols := t.screen.size()
	tables := []string{t.listing.table}
	if t.usual {
		tables = statsTables
	}
	var lines []string
	for _, table := range tables {
		l := *t.listing
		l.table = table
		var b bytes.Buffer
		if err := printRows(&b, &l, rows); err != nil {
			return nil, err
		}
		lines = strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		widest := 0
		for i, line := range lines {
			lines[i] = strings.TrimRight(line, " ")
			widest = max(widest, utf8.RuneCountInString(lines[i]))
		}
		if widest <= cols {
			break
		}
	}
	return lines, nil
}
