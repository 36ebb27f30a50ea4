package bootstrap

import (
	"sync"

	"github.com/kistdev/kist/internal/bootmsg"
)

// counter counts a stage.
type counter struct {
	j     *job
	mu    sync.Mutex // guards p
	p     bootmsg.Progress
	last  int64
	every int64
}

// counter begins to count a stage.
func (j *job) counter(stage string, total int, size int64) *counter {
	c := &counter{j: j, p: bootmsg.Progress{Stage: stage, Total: total, TotalBytes: size}, every: max(size/200, 64<<10)}
	c.tell()
	return c
}

func (c *counter) tell() {
	p := c.p
	c.last = p.Bytes
	c.j.report(bootmsg.Message{Progress: &p})
}

// bytes counts bytes; not each of them is told.
func (c *counter) bytes(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.p.Bytes += n; c.p.Bytes-c.last > c.every {
		c.tell()
	}
}

// one counts a thing that is done.
func (c *counter) one(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.p.Done++
	c.p.Name = name
	c.tell()
}

// serial makes a report that may be called from several goroutines.
func serial(report func(bootmsg.Message)) func(bootmsg.Message) {
	var mu sync.Mutex
	return func(m bootmsg.Message) {
		mu.Lock()
		defer mu.Unlock()
		report(m)
	}
}
