package runstep

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/solver/pb"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/network"
	"github.com/kistdev/kist/internal/sys"
)

// step is one Run.
type step struct {
	*Request
	r   *Runner
	id  string
	dir string // below the exec root

	root    *Mount
	overlay sys.Overlay
	sandbox *network.Sandbox
	out     *output
	mounts  []specs.Mount
	env     []string // of secrets
	secrets *os.File // file system in memory; nil until there is a secret
	serial  int      // of what is made for the mounts
	handed  bool     // Stdio is the keeper's
	roots   map[*Mount]string

	mu      sync.Mutex // guards what follows: things are put up side by side
	undo    []func(ctx context.Context) error
	mounted []func() error
}

// begin checks the request and notes the step, so that a crash leaves nothing unknown.
func (r *Runner) begin(q *Request) (*step, error) {
	s := &step{Request: q, r: r, id: q.ID, roots: map[*Mount]string{}}
	if s.id == "" {
		var b [32]byte
		_, _ = rand.Read(b[:]) // it never fails
		s.id = hex.EncodeToString(b[:])
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	s.dir = filepath.Join(r.stepsDir(), s.id)
	if err := os.Mkdir(s.dir, 0o711); err != nil {
		return nil, fmt.Errorf("note build step: %w", err)
	}
	return s, nil
}

// check refuses what cannot be run.
func (s *step) check() error {
	if len(s.id) != 64 || strings.Trim(s.id, "0123456789abcdef") != "" {
		return fmt.Errorf("id of a build step %q: %w", s.id, errdefs.ErrInvalidArgument)
	}
	if s.Op == nil || s.Op.Meta == nil || len(s.Op.Meta.Args) == 0 {
		return fmt.Errorf("build step without a command: %w", errdefs.ErrInvalidArgument)
	}
	for i := range s.Mounts {
		m := &s.Mounts[i]
		if m.Mount == nil {
			return fmt.Errorf("build step without mount %d: %w", i, errdefs.ErrInvalidArgument)
		}
		if m.Dest == pb.RootMount {
			if s.root != nil || m.MountType != pb.MountType_BIND {
				return fmt.Errorf("build step with %s over its root: %w", m.MountType, errdefs.ErrInvalidArgument)
			}
			s.root = m
		}
	}
	if s.root == nil {
		return fmt.Errorf("build step without a root filesystem: %w", errdefs.ErrInvalidArgument)
	}
	if s.root.Source.Local != nil || !slices.Contains([]string{"", "/", "."}, s.root.Selector) {
		return fmt.Errorf("build step on a part of a tree, or on the client's directory: %w", errdefs.ErrNotImplemented)
	}
	return s.entitled()
}

// push adds something to be taken down at the end of the step, however it ends.
func (s *step) push(fn func(ctx context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.undo = append(s.undo, fn)
}

// pushMount adds something that keeps a tree mounted.
func (s *step) pushMount(fn func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mounted = append(s.mounted, fn)
}

// unmount ends the mounts that were made for the step, which is over: no layer is made of what is mounted.
func (s *step) unmount() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, fn := range slices.Backward(s.mounted) {
		errs = append(errs, fn())
	}
	s.mounted = nil
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("unmount what a build step had mounted: %w", err)
	}
	return nil
}

// end takes down what was put up, last things first. The note of the step goes only if all of it is gone.
func (s *step) end(ctx context.Context) error {
	errs := []error{s.unmount()}
	for _, fn := range slices.Backward(s.undo) {
		errs = append(errs, fn(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clear up behind build step: %w", err)
	}
	return removeStepDir(s.dir)
}

// removeStepDir removes a step's directory with what is mounted in it (where mounts need a place).
func removeStepDir(dir string) error {
	if unix.Rmdir(dir) == nil { // as it nearly always is
		return nil
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) { // The step itself was faster than whoever swept after it.
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			_ = unix.Unmount(filepath.Join(dir, e.Name()), unix.MNT_DETACH) // if it is one
		}
	}
	return os.RemoveAll(dir)
}

// name makes a name for something of this step.
func (s *step) name() string {
	s.serial++
	return strconv.Itoa(s.serial)
}

// rootID names the root filesystem: it is called as the step, unless the caller has prepared it.
func (s *step) rootID() string {
	if s.root.Prepared != "" {
		return s.root.Prepared
	}
	return s.id
}

// A root filesystem of a mount is called by its step and a number.
func (s *step) mountRoot() string { return s.id + "-" + s.name() }

func isMountRoot(root, id string) bool { return strings.HasPrefix(root, id+"-") }

// listen makes a unix socket in the step's directory.
func (s *step) listen(name string) (*net.UnixListener, string, error) {
	dir, err := os.Open(s.dir)
	if err != nil {
		return nil, "", err
	}
	defer dir.Close()
	// Through the descriptor, for the path may be longer than an address.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: sys.FDPath(int(dir.Fd())) + "/" + name})
	if err != nil {
		return nil, "", err
	}
	l.SetUnlinkOnClose(false)
	return l, filepath.Join(s.dir, name), nil
}
