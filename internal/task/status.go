package task

// Status is a task as the keeper knows it.
type Status struct {
	ID    string
	PID   int
	State State
	Exit  *Exit `json:",omitempty"` // set when State is Stopped
	Execs []ExecStatus
}

// ExecStatus is an exec as the keeper knows it.
type ExecStatus struct {
	ExecID string
	PID    int
	Exit   *Exit `json:",omitempty"`
}

// State is the state of a task: created -> running -> stopped.
type State string

// The states of a task.
const (
	Created State = "created"
	Running State = "running"
	Stopped State = "stopped"
)
