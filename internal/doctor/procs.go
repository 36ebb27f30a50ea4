package doctor

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// process is one that runs on this host.
type process struct {
	pid  int
	name string   // of its program
	args []string // its command line
}

// processes lists those that can be seen.
func processes() []process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var list []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		raw, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err != nil || len(raw) == 0 {
			continue
		}
		args := strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00")
		list = append(list, process{pid, filepath.Base(args[0]), args})
	}
	return list
}

// called finds the processes of a program.
func (h *host) called(name string) []process {
	var list []process
	for _, p := range h.procs {
		if p.name == name {
			list = append(list, p)
		}
	}
	return list
}

// flag is the value of a flag on the command line.
func (p *process) flag(name string) string {
	for i, a := range p.args {
		if v, ok := strings.CutPrefix(a, name+"="); ok {
			return v
		}
		if a == name && i+1 < len(p.args) {
			return p.args[i+1]
		}
	}
	return ""
}

// variable is the value of a variable in the process's environment.
func (p *process) variable(name string) string {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/environ")
	if err != nil {
		return ""
	}
	for kv := range strings.SplitSeq(string(raw), "\x00") {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

// line is the first line of a file, or nothing.
func line(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(first)
}
