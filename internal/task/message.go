package task

import (
	"encoding/json"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kistdev/kist/internal/logfile"
	"github.com/kistdev/kist/internal/sys"
)

// Version is the highest version of the protocol that this program speaks, MinVersion the lowest. Both sides say their
// highest in Hello and speak the lower of the two. A version only ever adds kinds and fields, and unknown fields are
// ignored, so a daemon that was upgraded goes on with the keeper that is running; a keeper is never replaced while it
// holds a container. A client whose MinVersion is above the keeper's version refuses it with
// errdefs.ErrFailedPrecondition and leaves it alone. A keeper that holds nothing ends by itself some seconds after its
// last client, so a new program's keeper takes over at the next occasion.
const (
	Version    = 2 // 2: SlotSocket
	MinVersion = 1
)

// Kind is what a message is. Messages are packets on a unix socket (SOCK_SEQPACKET): an 8-byte header (Conn), JSON, and
// descriptors.
//
//	client                                   keeper
//	  | Hello {Version}               ->       |
//	  |                               <-       | Hello {Version}
//	  | Attach {AttachMessage} + fd   ->       |  one for each attachment the client holds, to a new keeper only; no reply
//	  | Adopt {Held} + descriptors    ->       |  one for each process the client holds
//	  | Ready {Fresh}                 ->       |  the keeper settles what is on disk and nobody handed in
//	  |                               <-       | Held {Held} + descriptors, one for each process the keeper holds
//	  |                               <-       | Ready
//	  |                               <-       | Event for each exit that no Delete has acknowledged
//	  |                                        |
//	  | request n (Create ... Delete) ->       |  any number at a time
//	  |                               <-       | Reply n {Failure or result} + descriptors of a new process
//	  | Profile {Key, Seccomp}        ->       |  before the first Create that names Key; no reply
//	  |                               <-       | Event, StdinClosed, Detached: at any time; no reply
type Kind uint8

// The kinds of messages. Their numbers are the protocol: never reuse one.
const (
	KindHello       Kind = 1
	KindAdopt       Kind = 2
	KindReady       Kind = 3
	KindHeld        Kind = 4
	KindReply       Kind = 5
	KindEvent       Kind = 6
	KindStdinClosed Kind = 7
	KindProfile     Kind = 8
	KindDetached    Kind = 9

	KindCreate     Kind = 16
	KindStart      Kind = 17
	KindExec       Kind = 18
	KindAttach     Kind = 19
	KindCloseStdin Kind = 20
	KindDelete     Kind = 21
	KindDeleteExec Kind = 22
	KindList       Kind = 23
	KindHold       Kind = 24 // version 2: a Target, and sockets to keep as those of Create
	KindMeasure    Kind = 25 // an older keeper says that it is not implemented
)

// Hello opens a connection.
type Hello struct {
	Version int
	PID     int
}

// Ready ends a side's account of what it holds.
type Ready struct {
	// Fresh says that the client has just begun and knows nothing. Otherwise whatever is on disk and was not handed in
	// had not been acknowledged to anybody, and is ended.
	Fresh bool `json:",omitempty"`
}

// Slot says which of a process's descriptors comes at a place.
type Slot uint8

// The slots.
const (
	SlotPIDFD   Slot = 1
	SlotStdin   Slot = 2 // our end of the pipe
	SlotStdout  Slot = 3
	SlotStderr  Slot = 4
	SlotConsole Slot = 5
	SlotNetNS   Slot = 6 // Create only
	SlotStream  Slot = 7 // Attach only
	SlotSocket  Slot = 8 // any number, in order; not to a keeper of version 1
)

// Held describes a process that its sender holds. Its descriptors come with it in the order of Slots.
type Held struct {
	ID       string
	ExecID   string `json:",omitempty"`
	PID      int
	State    State
	Terminal bool  `json:",omitempty"`
	Stdin    bool  `json:",omitempty"`
	Exit     *Exit `json:",omitempty"`
	// Child says that the process is the keeper's child, which the keeper reaps.
	Child bool `json:",omitempty"`
	Slots []Slot
}

// CreateMessage is the body of Create, and the record of a task on disk.
type CreateMessage struct {
	ID        string
	Spec      *specs.Spec
	Profile   string       `json:",omitempty"` // key of the seccomp profile, which is left out of Spec
	Rootfs    *sys.Overlay `json:",omitempty"`
	Stdin     bool         `json:",omitempty"`
	StdinOnce bool         `json:",omitempty"`
	Log       logfile.Config
	// Start lets it go at once.
	Start bool `json:",omitempty"`
	// Private: the record must not hold the environment.
	Private bool `json:",omitempty"`
	// Merged: both outputs are one.
	Merged bool `json:",omitempty"`
	Slots  []Slot
}

// ExecMessage is the body of Exec.
type ExecMessage struct {
	ID, ExecID string
	Process    *specs.Process
	Privileged bool `json:",omitempty"`
	Stdin      bool `json:",omitempty"`
}

// AttachMessage is the body of Attach.
type AttachMessage struct {
	AttachRequest
	// Ticket is what Detached will call the attachment, on the connection that it came by.
	Ticket uint64
}

// Detached says that an attachment has ended: the client gives up its copy of the stream.
type Detached struct{ Ticket uint64 }

// Target names a process: the body of Start, CloseStdin, StdinClosed, Delete and DeleteExec.
type Target struct {
	ID     string
	ExecID string `json:",omitempty"`
}

// ProfileMessage is a seccomp profile, sent once for many containers.
type ProfileMessage struct {
	Key     string
	Seccomp json.RawMessage
}

// Reply answers the request of the same number.
type Reply struct {
	Failure  *Failure `json:",omitempty"`
	Held     *Held    `json:",omitempty"` // Create, Exec
	Warnings []string `json:",omitempty"` // Create
	Tasks    []Status `json:",omitempty"` // List
	Use      *Use     `json:",omitempty"` // Measure
}
