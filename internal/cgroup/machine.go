package cgroup

import (
	"fmt"
	"os"
	"strings"

	"github.com/moby/moby/api/types/container"
)

// tick is how many nanoseconds one unit of /proc/stat is: the kernel tells user space hundredths of a second always.
const tick = 10_000_000

// systemCPU reads the processors' time, all together, and how many there are.
func (h *hierarchies) systemCPU(s *container.CPUStats) error {
	stat, err := os.ReadFile(h.proc + "/stat")
	if err != nil {
		return fmt.Errorf("reading the system's processor time: %w", err)
	}
	for line := range strings.Lines(string(stat)) {
		name, rest, _ := strings.Cut(line, " ")
		switch {
		case name == "cpu":
			// user nice system idle iowait irq softirq; what follows is counted in these already, or stolen.
			for i, f := range strings.Fields(rest) {
				if i < 7 {
					s.SystemUsage += parseNumber(f) * tick
				}
			}
		case strings.HasPrefix(name, "cpu"):
			s.OnlineCPUs++
		default:
			return nil
		}
	}
	return nil
}

// capLimit: a container without a limit has all of the machine's memory.
func (h *hierarchies) capLimit(m *container.MemoryStats) error {
	total, err := h.totalMemory()
	if err != nil {
		return err
	}
	if m.Limit == 0 || m.Limit > total {
		m.Limit = total
	}
	return nil
}

func (h *hierarchies) totalMemory() (uint64, error) {
	info, err := os.ReadFile(h.proc + "/meminfo")
	if err != nil {
		return 0, fmt.Errorf("reading the machine's memory: %w", err)
	}
	for line := range strings.Lines(string(info)) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			return parseNumber(strings.TrimSuffix(strings.TrimSpace(rest), " kB")) * 1024, nil
		}
	}
	return 0, nil
}
