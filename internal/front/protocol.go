package front

// Socket is the daemon's socket for this protocol, beside its kist.sock and with the same owner and mode.
const Socket = "front.sock"

// Version is the first field of a request. A daemon that speaks another one declines.
const Version = "1"

// MaxPacket is the largest packet; a command line that is longer goes the ordinary way. Every page that a process touches for
// the first time costs it half a microsecond and more, so it is one page.
const MaxPacket = 4 << 10

// The protocol, on a connected SOCK_SEQPACKET socket:
//
//	command                                    daemon
//	   | fields, each ended by NUL: Version, Plain or
//	   | Coloured, the arguments from "run" or "exec" on;
//	   | with them one end of a pair of stream sockets ->|
//	   |<--------------------------------------- Decline | nothing was done: do it without me
//	   |                                              or |
//	   |<---------------------------------- Warn, a text | any number
//	   |<-------------------------------- Started, an id | of a container in the foreground; first letter "r": it is
//	   |                                                 | removed when it ends
//	   | SignalTo, a number ---------------------------->| any number, any time after Started
//	   |<------- Ended, exit code, "\n", standard output | the pair's end is to be read to its end first
//	   |<------- Failed, exit code, "\n", standard error | it did not start: the pair brings nothing
//
// On the pair come standard output and error in docker's frames, from the keeper itself.
const (
	Decline  = 'd'
	Warn     = 'w'
	Started  = 'i'
	Ended    = 'x'
	Failed   = 'f'
	SignalTo = 's'

	// Plain and Coloured say how standard error is written.
	Plain    = "p"
	Coloured = "c"
)
