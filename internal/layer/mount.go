package layer

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// OpenRoot mounts the root filesystem id nowhere but on a descriptor (fsmount, Linux 5.2): the returned root resolves every
// path inside it. For a container that is not running. Close drops the mount.
func (s *Store) OpenRoot(id string) (*sys.Root, error) {
	o, err := s.Rootfs(id)
	if err != nil {
		return nil, err
	}
	o.Volatile = false
	f, err := s.mount(o)
	if err != nil {
		return nil, fmt.Errorf("mount root filesystem %s: %w", id, err)
	}
	return sys.NewRoot(f), nil
}

// OpenView is OpenRoot for looking only, while the root filesystem may be mounted elsewhere: to overlayfs the writable
// layer is then just one more lower directory. What changes meanwhile may or may not be seen.
func (s *Store) OpenView(id string) (*sys.Root, error) {
	p, err := s.root(id)
	if err != nil {
		return nil, err
	}
	o := s.overlay(id, p)
	if o.Upper != "" {
		o.Lower = append([]string{o.Upper}, o.Lower...)
		o.Upper, o.Work, o.Volatile = "", "", false
	}
	f, err := s.mount(o)
	if err != nil {
		return nil, fmt.Errorf("mount root filesystem %s: %w", id, err)
	}
	return sys.NewRoot(f), nil
}

// Mount mounts the root filesystem id nowhere but on a descriptor, as durable as it was prepared to be: what is written into
// a volatile one is not synced when it is unmounted.
func (s *Store) Mount(id string) (*sys.Root, error) {
	o, err := s.Rootfs(id)
	if err != nil {
		return nil, err
	}
	f, err := s.mount(o)
	if err != nil {
		return nil, fmt.Errorf("mount root filesystem %s: %w", id, err)
	}
	return sys.NewRoot(f), nil
}

// OpenStack mounts layers, the lowest first, for looking at them. They must be held until the root is closed.
func (s *Store) OpenStack(layers []digest.Digest) (*sys.Root, error) {
	s.mu.Lock()
	p, err := s.stackUp(layers)
	s.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("mount layers: %w", err)
	}
	p.ReadOnly = true
	if len(p.Lower) == 0 {
		return sys.OpenRoot(s.dir + "/e")
	}
	f, err := s.mount(s.overlay("", p))
	if err != nil {
		return nil, fmt.Errorf("mount layers: %w", err)
	}
	return sys.NewRoot(f), nil
}

// mount makes a detached mount.
func (s *Store) mount(o sys.Overlay) (*os.File, error) { return o.Mount(s.place) }

// place makes a directory to mount on for a moment.
func (s *Store) place() (dir string, release func(), err error) {
	name := "t/" + randomName()
	if err := unix.Mkdirat(s.fd, name, 0o700); err != nil {
		return "", nil, err
	}
	return filepath.Join(s.dir, name), func() { _ = unix.Unlinkat(s.fd, name, unix.AT_REMOVEDIR) }, nil // what stays is removed by Open
}
