package engine

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// column is one of ps's.
type column struct {
	title string
	show  func(*process) string
}

// columns by the names that ps -o takes.
var columns = map[string]column{
	"pid":     {"PID", func(p *process) string { return strconv.Itoa(p.pid) }},
	"ppid":    {"PPID", func(p *process) string { return strconv.Itoa(p.ppid) }},
	"pgid":    {"PGID", func(p *process) string { return strconv.Itoa(p.pgid) }},
	"sid":     {"SID", func(p *process) string { return strconv.Itoa(p.sid) }},
	"user":    {"USER", func(p *process) string { return userName(p.uid) }},
	"uid":     {"UID", func(p *process) string { return strconv.Itoa(p.uid) }},
	"group":   {"GROUP", func(p *process) string { return groupName(p.gid) }},
	"gid":     {"GID", func(p *process) string { return strconv.Itoa(p.gid) }},
	"comm":    {"COMMAND", func(p *process) string { return p.comm }},
	"cmd":     {"CMD", func(p *process) string { return p.args }},
	"args":    {"COMMAND", func(p *process) string { return p.args }},
	"c":       {"C", func(p *process) string { return strconv.Itoa(int(p.share())) }},
	"pcpu":    {"%CPU", func(p *process) string { return fmt.Sprintf("%.1f", p.share()) }},
	"pmem":    {"%MEM", func(p *process) string { return fmt.Sprintf("%.1f", p.memory()) }},
	"vsz":     {"VSZ", func(p *process) string { return strconv.FormatUint(p.vsize/1024, 10) }},
	"rss":     {"RSS", func(p *process) string { return strconv.FormatUint(p.rss/1024, 10) }},
	"tty":     {"TT", func(p *process) string { return p.terminal() }},
	"stat":    {"STAT", func(p *process) string { return p.flags() }},
	"s":       {"S", func(p *process) string { return p.state }},
	"time":    {"TIME", func(p *process) string { return hours(p.cpu) }},
	"bsdtime": {"TIME", func(p *process) string { return minutes(p.cpu) }},
	"etime":   {"ELAPSED", func(p *process) string { return elapsed(p.age) }},
	"etimes":  {"ELAPSED", func(p *process) string { return strconv.Itoa(int(p.age.Seconds())) }},
	"stime":   {"STIME", func(p *process) string { return begun(p.started, time.Now()) }},
	"lstart":  {"STARTED", func(p *process) string { return p.started.Format(time.ANSIC) }},
	"nlwp":    {"NLWP", func(p *process) string { return strconv.Itoa(p.threads) }},
	"ni":      {"NI", func(p *process) string { return strconv.Itoa(p.nice) }},
	"pri":     {"PRI", func(p *process) string { return strconv.Itoa(39 - p.priority) }},
}

// otherNames of the same columns.
var otherNames = map[string]string{
	"%cpu": "pcpu", "%mem": "pmem", "command": "args", "state": "s", "cputime": "time", "vsize": "vsz", "rssize": "rss",
	"tt": "tty", "tname": "tty", "euser": "user", "ruser": "user", "euid": "uid", "egroup": "group", "pgrp": "pgid",
	"sess": "sid", "session": "sid", "ucmd": "comm", "ucomm": "comm", "thcount": "nlwp", "nice": "ni", "start": "stime",
	"start_time": "stime", "bsdstart": "stime",
}

// parsePS understands the usual arguments of ps: -e, -f, -ef, aux, -o and -eo with columns. Docker's default is -ef.
func parsePS(args string) ([]column, error) {
	words := strings.Fields(args)
	if len(words) == 0 {
		words = []string{"-ef"}
	}
	var picked []column
	format := ""
	for i := 0; i < len(words); i++ {
		word := words[i]
		flags := strings.TrimPrefix(word, "-")
		switch {
		case flags == "aux" || flags == "axu" || flags == "u":
			format = "aux"
		case strings.Trim(flags, "eAax") == "f":
			format = "full"
		case strings.Trim(flags, "eAaxw") == "" && flags != "":
		case strings.HasPrefix(strings.TrimLeft(flags, "eAax"), "o"):
			list := strings.TrimPrefix(strings.TrimLeft(flags, "eAax"), "o")
			if list == "" {
				i++
				if i == len(words) {
					return nil, invalid("ps: option -o needs a list of columns")
				}
				list = words[i]
			}
			more, err := parseColumns(list)
			if err != nil {
				return nil, err
			}
			picked = append(picked, more...)
		default:
			return nil, invalid("ps: %q is not understood here; try -ef, aux, or -o with columns", word)
		}
	}
	switch {
	case len(picked) > 0:
		return picked, nil
	case format == "aux":
		return named("user:USER pid pcpu pmem vsz rss tty:TTY stat stime:START bsdtime args"), nil
	case format == "full":
		return named("user:UID pid ppid c stime tty:TTY time cmd"), nil
	}
	return named("pid tty:TTY time comm:CMD"), nil
}

// named picks columns, some under another title.
func named(list string) []column {
	var picked []column
	for word := range strings.FieldsSeq(list) {
		name, title, retitled := strings.Cut(word, ":")
		c := columns[name]
		if retitled {
			c.title = title
		}
		picked = append(picked, c)
	}
	return picked
}

// parseColumns reads pid,comm or pid=NUMBER.
func parseColumns(list string) ([]column, error) {
	var picked []column
	for word := range strings.SplitSeq(list, ",") {
		name, title, retitled := strings.Cut(word, "=")
		name = strings.ToLower(name)
		if other, ok := otherNames[name]; ok {
			name = other
		}
		c, ok := columns[name]
		if !ok {
			return nil, invalid("ps: unknown column %q", word)
		}
		if retitled {
			c.title = title
		}
		picked = append(picked, c)
	}
	return picked, nil
}

// share is the part of one processor that the process used in its life, in percent.
func (p *process) share() float64 {
	if p.age <= 0 {
		return 0
	}
	return 100 * p.cpu.Seconds() / p.age.Seconds()
}

func (p *process) memory() float64 {
	if p.hostMemory == 0 {
		return 0
	}
	return 100 * float64(p.rss) / float64(p.hostMemory)
}

func (p *process) terminal() string {
	major, minor := p.tty>>8&0xfff, p.tty&0xff|p.tty>>12&0xfff00
	switch {
	case p.tty == 0:
		return "?"
	case major >= 136 && major <= 143:
		return fmt.Sprintf("pts/%d", minor+(major-136)*256)
	case major == 4 && minor < 64:
		return fmt.Sprintf("tty%d", minor)
	}
	return fmt.Sprintf("%d,%d", major, minor)
}

// flags is the state with ps's letters behind it.
func (p *process) flags() string {
	s := p.state
	if p.nice < 0 {
		s += "<"
	} else if p.nice > 0 {
		s += "N"
	}
	if p.locked {
		s += "L"
	}
	if p.sid == p.pid {
		s += "s"
	}
	if p.threads > 1 {
		s += "l"
	}
	if p.tpgid > 0 && p.tpgid == p.pgid {
		s += "+"
	}
	return s
}

// hours is [days-]HH:MM:SS.
func hours(d time.Duration) string {
	s := int(d.Seconds())
	text := fmt.Sprintf("%02d:%02d:%02d", s/3600%24, s/60%60, s%60)
	if days := s / 86400; days > 0 {
		return fmt.Sprintf("%d-%s", days, text)
	}
	return text
}

// minutes is M:SS.
func minutes(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// elapsed is [[days-]HH:]MM:SS.
func elapsed(d time.Duration) string {
	if d < time.Hour {
		s := int(d.Seconds())
		return fmt.Sprintf("%02d:%02d", s/60, s%60)
	}
	return hours(d)
}

// begun is the time of day, the day, or the year.
func begun(t, now time.Time) string {
	switch {
	case now.Sub(t) < 24*time.Hour:
		return t.Format("15:04")
	case t.Year() == now.Year():
		return t.Format("Jan02")
	}
	return t.Format("2006")
}
