package layer

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/kistdev/kist/internal/sys"
)

// ReadFile reads a small regular file (at most max bytes) from a prepared root filesystem, mounted or not, without
// mounting it where it can: the files that tell users and groups. A file that is not there is fs.ErrNotExist.
func (s *Store) ReadFile(id, name string, max int64) ([]byte, error) {
	p, err := s.root(id)
	if err != nil {
		return nil, err
	}
	key := s.knownAs(id, p, name)
	if data, ok := s.known.get(key); ok && int64(len(data)) <= max {
		return bytes.Clone(data), nil
	}
	data, err := s.stack(id, p, true).readFile(name, max)
	if err == nil && key != "" {
		s.known.put(key, bytes.Clone(data))
	}
	if errors.Is(err, errIndirect) {
		data, err = s.readMounted(id, name, max)
	}
	if err != nil {
		return nil, fmt.Errorf("read file of root filesystem %s: %w", id, err)
	}
	return data, nil
}

func (t *stack) readFile(name string, max int64) ([]byte, error) {
	f, err := t.walk(name)
	if err != nil {
		return nil, err
	}
	if f.st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("not a regular file")}
	}
	for _, attr := range []string{"metacopy", "redirect"} {
		if _, err := sys.GetXattr(f.file, t.prefix+attr); err == nil {
			return nil, errIndirect
		}
	}
	// The layer is a root of its own: even if the running container swaps in a link now, it leads nowhere else.
	root, err := sys.OpenRoot(t.layerOf(f.file))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.ReadFile(name, max)
}

// layerOf is the layer that holds file.
func (t *stack) layerOf(file string) string {
	for _, dir := range t.dirs {
		if len(file) > len(dir) && file[:len(dir)] == dir && file[len(dir)] == '/' {
			return dir
		}
	}
	return file
}

func (s *Store) readMounted(id, name string, max int64) ([]byte, error) {
	root, err := s.OpenView(id)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.ReadFile(name, max)
}
