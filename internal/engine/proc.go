package engine

import (
	"os"
	"strconv"
)

// readProc reads a file of a process.
func readProc(pid int, name string) (string, error) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + name)
	return string(raw), err
}
