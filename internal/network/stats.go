package network

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"github.com/moby/moby/api/types/container"
)

// Stats returns the counters of the interfaces that the process sees, by name, without the loopback.
func Stats(pid int) (map[string]container.NetworkStats, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/dev")
	if err != nil {
		return nil, fmt.Errorf("read network counters: %w", err)
	}
	return parseNetDev(b)
}

// parseNetDev reads the format of /proc/net/dev: two lines of headings, then eight columns received and eight sent.
func parseNetDev(b []byte) (map[string]container.NetworkStats, error) {
	stats := map[string]container.NetworkStats{}
	for line := range bytes.Lines(b) {
		name, rest, ok := bytes.Cut(line, []byte(":"))
		name = bytes.TrimSpace(name)
		if !ok || string(name) == "lo" {
			continue
		}
		fields := bytes.Fields(rest)
		if len(fields) < 12 {
			return nil, fmt.Errorf("read network counters: %d columns for %s", len(fields), name)
		}
		var n [12]uint64
		for i := range n {
			v, err := strconv.ParseUint(string(fields[i]), 10, 64)
			if err != nil {
				return nil, fmt.Errorf("read network counters of %s: %w", name, err)
			}
			n[i] = v
		}
		stats[string(name)] = container.NetworkStats{
			RxBytes: n[0], RxPackets: n[1], RxErrors: n[2], RxDropped: n[3],
			TxBytes: n[8], TxPackets: n[9], TxErrors: n[10], TxDropped: n[11],
		}
	}
	return stats, nil
}
