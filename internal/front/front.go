// Package front has the daemon carry out a whole command: one packet with the command line goes out, one with the exit code
// comes back. Everything between them (flags, the API's requests, waiting) happens in the daemon, where all of it is warm.
//
// A client of kist's size needs about a millisecond before its main function begins, and another one for flags, JSON and four
// requests, more than the daemon needs to start a container. This package imports next to nothing, so that package
// early can run it before all that: kist exec costs 1.3 ms of the client's processor time instead of 3.0.
//
// Only run and exec go this way, without terminal and standard input, and only to kist's own daemon. The daemon declines
// whatever depends on more than the arguments (files and variables of the client), and whatever fails before a container is
// made; then the ordinary client does it all.
package front

import (
	"syscall"
	"time"
)

// Command is a command under way in the daemon.
type Command struct {
	// Run says that it is a run: signals are passed on to the container.
	Run bool
	// ID is the container's that runs for it; Removed says that it is removed when it ends.
	ID      string
	Removed bool

	control, stream int // descriptors; -1 when the stream has ended
	packet          []byte
	demux           demux
	code            int
	state           state
	ending          string // what is to be told after the output
}

// state is what is known of a command.
type state int

const (
	under   state = iota // under way
	ended                // the exit code is known, output may follow
	failed               // it did not start: no output follows
	refused              // the daemon declines
	lost                 // the daemon has gone
)

// Result says how far Finish came.
type Result int

// Results of Finish.
const (
	// Done: the exit code is Code.
	Done Result = iota
	// Declined: nothing was done.
	Declined
	// Pending: the time was over.
	Pending
	// Lost: the daemon has gone. The output was copied to its end.
	Lost
)

// Begin sends the command line, the program's name left out. It returns nil when this is not for the daemon.
func Begin(args []string) *Command {
	if len(args) < 2 || args[0] != "run" && args[0] != "exec" {
		return nil
	}
	path, ok := socket()
	if !ok || !plainSettings() {
		return nil
	}
	packet := request(args)
	if len(packet) > MaxPacket {
		return nil
	}
	control, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		_ = syscall.Close(control)
		return nil
	}
	err = syscall.Connect(control, &syscall.SockaddrUnix{Name: path})
	if err == nil {
		err = syscall.Sendmsg(control, packet, syscall.UnixRights(pair[1]), nil, syscall.MSG_NOSIGNAL)
	}
	_ = syscall.Close(pair[1])
	c := &Command{Run: args[0] == "run", control: control, stream: pair[0], packet: packet[:MaxPacket], demux: demux{out: 1, err: 2}}
	if err != nil {
		c.close()
		return nil
	}
	return c
}

// request is the packet for a command line.
func request(args []string) []byte {
	style := Plain
	if coloured() {
		style = Coloured
	}
	packet := append(make([]byte, 0, MaxPacket), Version+"\x00"+style+"\x00"...)
	for _, a := range args {
		packet = append(append(packet, a...), 0)
	}
	return packet
}

// Code is the exit code, once Finish has returned Done.
func (c *Command) Code() int { return c.code }

// Signal passes a signal on to the container.
func (c *Command) Signal(number int) {
	// A daemon that is gone is noticed by Finish.
	_ = syscall.Sendto(c.control, append([]byte{SignalTo}, itoa(number)...), syscall.MSG_NOSIGNAL, nil)
}

// Finish copies the output and waits for the end. A run may be Pending: its patience is counted from when its container runs. Then
// Finish may be called again. Without patience (0) it waits for ever.
func (c *Command) Finish(patience time.Duration) Result {
	var deadline time.Time
	for !c.over() {
		if c.Run && c.ID != "" && patience > 0 && deadline.IsZero() {
			deadline = time.Now().Add(patience)
		}
		ready, err := wait([2]int{c.controlFD(), c.stream}, deadline)
		if err != nil {
			return Pending
		}
		// The daemon's word first: it warns before the container writes.
		if ready[0] {
			c.readControl()
		} else {
			c.readStream()
		}
	}
	c.close()
	if c.ending != "" {
		put(c.demux.err, []byte(c.ending))
	}
	switch c.state {
	case refused:
		return Declined
	case lost:
		return Lost
	}
	return Done
}

// over says that there is nothing more to wait for.
func (c *Command) over() bool {
	switch c.state {
	case under:
		return false
	case ended:
		return c.stream < 0
	case lost: // What was not started writes nothing: the keeper holds its stream for a start that nobody will ask for.
		return c.stream < 0 || c.Run && c.ID == ""
	}
	return true
}

// controlFD is the control connection as long as something is to come from it.
func (c *Command) controlFD() int {
	if c.state == under {
		return c.control
	}
	return -1
}

func (c *Command) close() {
	_ = syscall.Close(c.control)
	c.endStream()
}

func (c *Command) endStream() {
	if c.stream >= 0 {
		_ = syscall.Close(c.stream)
		c.stream = -1
	}
}

// readStream copies what has come of the output.
func (c *Command) readStream() {
	n, err := syscall.Read(c.stream, c.demux.room())
	switch {
	case err == syscall.EINTR:
	case n <= 0:
		c.endStream()
	default:
		if !c.demux.took(n) {
			c.endStream()
		}
	}
}

// readControl reads a packet of the daemon.
func (c *Command) readControl() {
	n, err := syscall.Read(c.control, c.packet)
	switch {
	case err == syscall.EINTR:
		return
	case n <= 0:
		c.state = lost
		return
	}
	c.heed(string(c.packet[:n]))
}

// heed follows a packet.
func (c *Command) heed(packet string) {
	rest := packet[1:]
	switch packet[0] {
	case Started:
		if c.Removed = rest != "" && rest[0] == 'r'; c.Removed {
			rest = rest[1:]
		}
		c.ID = rest
	case Warn:
		if c.ID != "" { // It is about the end, and follows what the container has written.
			c.ending += rest
			return
		}
		put(c.demux.err, []byte(rest))
	case Decline:
		c.state = refused
	case Ended, Failed:
		code, text := cut(rest, '\n')
		c.code = atoi(code)
		c.state = ended
		fd := c.demux.out
		if packet[0] == Failed {
			c.state, fd = failed, c.demux.err
		}
		put(fd, []byte(text))
	}
}
