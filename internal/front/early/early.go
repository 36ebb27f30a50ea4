// Package early runs package front before the other packages of the program are initialised, most of which a command that the
// daemon carries out never needs: Go initialises packages in the order of their imports, and this one imports nearly nothing.
// It is for the client's main package alone.
package early

import (
	"runtime"
	"syscall"
	"time"

	"github.com/kistdev/kist/internal/front"
)

// patience is how long a container runs before signals are passed on to it: that needs the whole of the program (0.7 ms), which is
// not worth it for one that has ended by then. A signal that comes earlier ends the command, as one does that comes before the
// ordinary client has begun to catch them.
const patience = 50 * time.Millisecond

// command is what main has to go on with, and gone says that the daemon has gone meanwhile.
var (
	command *front.Command
	gone    bool
)

// Unfinished returns a command that the daemon is carrying out, or has gone with; nil when main is to carry out the command
// line itself.
func Unfinished() (c *front.Command, daemonGone bool) { return command, gone }

func init() { //nolint:gochecknoinits // the point of this package
	c := front.Begin(arguments())
	if c == nil {
		return
	}
	// With more than one, Go's monitor thread wakes every 70 us for as long as the command waits, to look after the processor
	// that waits with it: half of all switches between threads.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	switch c.Finish(patience) {
	case front.Done:
		syscall.Exit(c.Code())
	case front.Lost:
		command, gone = c, true
	case front.Pending:
		command = c
	case front.Declined:
	}
}

// arguments are those of the program, without its name. Package os, which has them, would be initialised first otherwise.
func arguments() []string {
	fd, err := syscall.Open("/proc/self/cmdline", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer syscall.Close(fd)
	raw := make([]byte, front.MaxPacket)
	n, err := syscall.Read(fd, raw)
	if err != nil || n <= 0 || n == len(raw) {
		return nil
	}
	var args []string
	begin := 0
	for i, c := range raw[:n] {
		if c == 0 {
			args = append(args, string(raw[begin:i]))
			begin = i + 1
		}
	}
	return args[min(1, len(args)):]
}
