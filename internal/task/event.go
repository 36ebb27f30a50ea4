package task

// EventKind is what an Event tells.
type EventKind string

// The kinds of events.
const (
	EventExit   EventKind = "exit"   // Exit is set; the record is on disk
	EventOOM    EventKind = "oom"    // the kernel killed something in the container for want of memory
	EventDetach EventKind = "detach" // an attachment ended by its detach keys
)

// Event is something that the keeper noticed.
type Event struct {
	Kind   EventKind
	ID     string
	ExecID string `json:",omitempty"`
	Exit   *Exit  `json:",omitempty"`
}
