package task

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
)

// Use is what a process holds of what leaks.
type Use struct {
	PID         int
	Goroutines  int
	Descriptors int
	// HeapBytes are in use after a collection, MappedBytes what the Go runtime has of the system's memory.
	HeapBytes, MappedBytes uint64
}

// Measure counts what this process holds, after a collection that gives free memory back.
func Measure() (*Use, error) {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	return &Use{
		PID: os.Getpid(), Goroutines: runtime.NumGoroutine(),
		Descriptors: len(entries) - 1, // Less the one that reads the directory.
		HeapBytes:   m.HeapAlloc, MappedBytes: m.Sys - m.HeapReleased,
	}, nil
}

// Use asks the keeper what it holds.
func (c *Client) Use(ctx context.Context) (*Use, error) {
	o, err := c.call(ctx, true, KindMeasure, nil)
	return o.reply.Use, err
}
