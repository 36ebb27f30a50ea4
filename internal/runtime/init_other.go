//go:build !amd64 && !arm64

package runtime

import (
	"fmt"
	goruntime "runtime"

	"github.com/containerd/errdefs"
)

// InitProgram returns the program for the first process of a container that is run with an init. There is none for this
// architecture.
func InitProgram() ([]byte, error) {
	return nil, fmt.Errorf("an init program for %s: %w", goruntime.GOARCH, errdefs.ErrNotImplemented)
}
