package engine

import (
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	realtimeMin = 34 // the C library keeps 32 and 33 for itself
	realtimeMax = 64
)

// parseSignal reads a name with or without SIG, or a number.
func parseSignal(text string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(text); err == nil {
		if n <= 0 || n > realtimeMax {
			return 0, invalid("invalid signal: %s", text)
		}
		return syscall.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if sig := unix.SignalNum("SIG" + name); sig != 0 {
		return sig, nil
	}
	if sig, ok := realtime(name); ok {
		return sig, nil
	}
	return 0, invalid("invalid signal: %s", text)
}

// realtime reads RTMIN, RTMIN+n, RTMAX and RTMAX-n.
func realtime(name string) (syscall.Signal, bool) {
	for prefix, base := range map[string]int{"RTMIN": realtimeMin, "RTMAX": realtimeMax} {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		offset := 0
		if rest != "" {
			n, err := strconv.Atoi(rest) // Takes the sign, too.
			if err != nil {
				return 0, false
			}
			offset = n
		}
		sig := base + offset
		return syscall.Signal(sig), sig >= realtimeMin && sig <= realtimeMax
	}
	return 0, false
}

// signalName is how a person calls it: SIGTERM, SIGRTMIN+3.
func signalName(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	if sig >= realtimeMin {
		return "SIGRTMIN+" + strconv.Itoa(int(sig)-realtimeMin)
	}
	return "signal " + strconv.Itoa(int(sig))
}
