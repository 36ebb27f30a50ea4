package task

import (
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kistdev/kist/internal/logfile"
	"github.com/kistdev/kist/internal/sys"
)

// CreateRequest asks for a container's first process.
type CreateRequest struct {
	// ID is the container's id: 64 hexadecimal digits.
	ID string
	// Spec is the OCI runtime specification. Its Root.Path is used as it is when Rootfs is nil. It is not changed, and
	// must not be changed before the call returns.
	Spec *specs.Spec
	// Rootfs is mounted by the new process itself, inside its own mount namespace.
	Rootfs *sys.Overlay
	// NetNS is the network namespace to join; nil leaves it to Spec. It is not closed by the callee.
	NetNS *os.File
	// Sockets are listening sockets in the container's network namespace. They stay the caller's; the keeper holds copies
	// until the process ends, so that they outlive the client's process, whose successor gets them by Client.Sockets.
	Sockets []int
	// Stdin keeps the process's standard input open for attachments; without it, it is /dev/null. With a terminal
	// (Spec.Process.Terminal) it says whether attachments may write to it.
	Stdin bool
	// StdinOnce closes standard input when the first attachment that may write to it ends its side (not with a terminal).
	StdinOnce bool
	// Log says where output goes.
	Log logfile.Config
	// Private keeps the environment out of the record on disk: it holds secrets.
	Private bool
	// Merged makes standard error the same pipe as standard output: then nothing overtakes anything, and what is read of it
	// is standard output.
	Merged bool
}

// ExecRequest asks for a further process in a running task. It is created and started in one step.
type ExecRequest struct {
	ID     string // the container
	ExecID string
	// Process is the OCI process; Terminal and ConsoleSize are honoured.
	Process *specs.Process
	// Seccomp and Privileged follow the container's own spec unless Privileged is set, which drops all confinement that
	// the process itself can be freed of (seccomp, capabilities are taken from Process).
	Privileged bool
	// Stdin gives it a standard input that attachments write to; it is closed when such an attachment ends its side.
	Stdin bool
}

// AttachRequest connects a stream to a process's standard streams. The descriptor that goes with it is owned by the
// keeper from then on: output is written to it directly, without passing through the client's process.
type AttachRequest struct {
	ID     string
	ExecID string // empty for the first process
	Stdin  bool   // copy from the stream to the process
	Stdout bool
	Stderr bool
	// Multiplex frames output as docker's attach does without a terminal: 8 bytes of header, then the payload.
	Multiplex bool
	// DetachKeys, when not empty, are the bytes that end the attachment without ending the process.
	DetachKeys []byte
	// Pending are bytes that had been read from the stream already.
	Pending []byte
	// AcrossRestarts is when output ends: with the process (false), or it goes on over restarts of the container (true):
	// such an attachment survives the Delete of its task, waits for the next Create of the same ID, and is closed by a
	// Delete that finds no process.
	AcrossRestarts bool
}
