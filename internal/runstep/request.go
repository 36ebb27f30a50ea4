package runstep

import (
	"context"
	"io"
	"net"
	"os"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/treesum"
)

// Request is one command to run.
type Request struct {
	// ID names the step: 64 hexadecimal digits; empty makes one up.
	ID string
	Op *pb.ExecOp
	// Mounts are those of Op with what their inputs hold, in the same order.
	Mounts []Mount
	// Platform that the command is for; nil means this machine's.
	Platform *ocispec.Platform
	// Secrets gives a secret's value, SSH a connection to an agent of the client. Something that the client does not have is
	// an errdefs.ErrNotFound. Both may be nil.
	Secrets func(ctx context.Context, id string) ([]byte, error)
	SSH     func(ctx context.Context, id string) (net.Conn, error)
	// Output gets what the command writes to either of its outputs, while it does and in that order: they are one pipe. May
	// be nil.
	Output io.Writer
	// Stdio, when set, is a socket that is the command's standard input and output; Output then gets what it writes to its
	// standard error alone. It is the runner's from the call on.
	Stdio *os.File
	// Notice gets lines about the step itself, such as what it waits for. May be nil.
	Notice func(line string)
	// HostNetwork and Insecure say that the client grants the entitlements network.host and security.insecure.
	HostNetwork, Insecure bool
	// Devices are those that the client grants, of those that the operation asks for; nil grants none.
	Devices *entitlements.DevicesConfig
	// Commit says how layers are made of what was changed.
	Commit layer.CommitOptions
}

// Mount is a mount of the operation, and what its input holds.
type Mount struct {
	*pb.Mount
	Source Source
	// Prepared, when set, names a root filesystem that the caller has prepared in the layer store: the command runs in that
	// one, nothing is put on top of it, and no layer is made of it. Only for the root.
	Prepared string
}

// Source is a file tree: a stack of layers, the lowest first, or a directory of the client. The zero value is an empty tree.
type Source struct {
	Layers []digest.Digest
	Local  *Local
}

// Local is a directory in place.
type Local struct {
	Dir string
	// Filter says what of it takes part.
	Filter treesum.Filter
}
