// Package movemsg is what `kist move` and the daemon that something is moved from say to each other.
//
// The command asks that daemon (POST /kist/move/send with a Request in the query's "request") and the other one
// (POST /kist/move/receive), takes over both connections and joins them. What the first one sends has the frames of Docker's
// multiplexed streams: standard output is for the other daemon, standard error holds lines of JSON, each a Line, for the person.
package movemsg

import "github.com/kistdev/kist/internal/fault"

// Kinds of what is moved.
const (
	Image     = "image"
	Volume    = "volume"
	Container = "container"
)

// Request says what is to be moved, and how.
type Request struct {
	Kind string `json:"kind"`
	// Name is how it is called here, NewName how there if that is another name.
	Name    string `json:"name"`
	NewName string `json:"newName,omitempty"`
	// Keep leaves a container here, and has it go on.
	Keep bool `json:"keep,omitempty"`
	// Remove removes an image or a volume here once it is there.
	Remove bool `json:"remove,omitempty"`
	// KeepBinds takes the paths of this host that a container uses to be there too.
	KeepBinds bool `json:"keepBinds,omitempty"`
	// Replace lets volumes take the place of others.
	Replace bool `json:"replace,omitempty"`
	// Plain sends without compression: nothing is far away.
	Plain bool `json:"plain,omitempty"`
}

// Line is one line of progress.
type Line struct {
	// Item is what is under way: "layer 3 of 5", "volume data"; Doing what is done with it: "sending". Done and Total count its
	// bytes.
	Item  string `json:"item,omitempty"`
	Doing string `json:"doing,omitempty"`
	Done  int64  `json:"done,omitempty"`
	Total int64  `json:"total,omitempty"`
	// Say is something that a person may want to know.
	Say     string       `json:"say,omitempty"`
	Result  *Result      `json:"result,omitempty"`
	Failure *fault.Parts `json:"failure,omitempty"`
}

// Result is the end of a move that succeeded.
type Result struct {
	// ID of the image or container there, or the volume's name.
	ID string `json:"id"`
	// Sent is how many bytes went over the wire, Size how many what was moved has.
	Sent int64 `json:"sent"`
	Size int64 `json:"size"`
	// Running says that a container runs there. Gone says that it, or what was moved, is not here any more.
	Running bool `json:"running,omitempty"`
	Gone    bool `json:"gone,omitempty"`
	// Left are volumes that stay here.
	Left []string `json:"left,omitempty"`
}
