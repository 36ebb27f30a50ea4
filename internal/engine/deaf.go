package engine

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// deaf says that a signal cannot reach a container's first process: it is process 1 of its own pid namespace and has no
// handler for it, so the kernel drops the signal, whatever its default action is (pid_namespaces(7)). A signal that the
// process blocks is kept for it (it may wait for signals rather than handle them), so it is not deaf to that. One that it
// ignores on purpose is its own decision: it may be about to finish something, and keeps the grace time for it.
func deaf(pid int, sig syscall.Signal) bool {
	if sig == syscall.SIGKILL || sig == syscall.SIGSTOP {
		return false
	}
	st, err := readSignals(fmt.Sprintf("/proc/%d/status", pid))
	return err == nil && st.isInit && (st.caught|st.blocked|st.ignored)&(1<<(uint(sig)-1)) == 0
}

type signalState struct {
	isInit                   bool
	caught, blocked, ignored uint64
}

func readSignals(file string) (signalState, error) {
	var s signalState
	f, err := os.Open(file)
	if err != nil {
		return s, err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "NSpid": // The pid in each namespace, the outermost first.
			pids := strings.Fields(value)
			s.isInit = len(pids) > 1 && pids[len(pids)-1] == "1"
		case "SigBlk":
			s.blocked, err = strconv.ParseUint(value, 16, 64)
		case "SigIgn":
			s.ignored, err = strconv.ParseUint(value, 16, 64)
		case "SigCgt":
			s.caught, err = strconv.ParseUint(value, 16, 64)
		}
		if err != nil {
			return s, fmt.Errorf("%s: %w", file, err)
		}
	}
	return s, lines.Err()
}
