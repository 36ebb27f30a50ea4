package cdi

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
)

// DefaultDirs are where vendors' tools write, in rising order of precedence.
func DefaultDirs() []string { return []string{"/etc/cdi", "/var/run/cdi"} }

// Catalog is what the specification files offered when they were read.
type Catalog struct {
	// Files are the specifications that were read, Problems those that could not be used.
	Files    []string
	Problems []Problem

	dirs    []string
	devices map[string]found
}

// Problem is a specification that cannot be used, or a device of it.
type Problem struct {
	File string
	Err  error
}

// Error is the problem in a line.
func (p Problem) Error() string { return fmt.Sprintf("device specification %s: %v", p.File, p.Err) }

// found is a device of the catalog.
type found struct {
	dir    int // index of the directory: a later one goes first
	path   string
	file   *file
	device *device
	// twice names a second file of the same directory that has the device too.
	twice string
}

// Read reads all specification files of the directories.
func Read(dirs []string) *Catalog {
	c := &Catalog{dirs: dirs, devices: map[string]found{}}
	for i, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.Problems = append(c.Problems, Problem{dir, err})
		}
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); ext != ".json" && ext != ".yaml" && ext != ".yml" || e.IsDir() {
				continue
			}
			name := filepath.Join(dir, e.Name())
			f, err := readFile(name)
			if err != nil {
				c.Problems = append(c.Problems, Problem{name, err})
				continue
			}
			c.Files = append(c.Files, name)
			c.add(i, name, f)
		}
	}
	c.settle()
	return c
}

func (c *Catalog) add(dir int, name string, f *file) {
	for i := range f.Devices {
		full := f.Kind + "=" + f.Devices[i].Name
		d := found{dir: dir, path: name, file: f, device: &f.Devices[i]}
		if old, ok := c.devices[full]; ok && old.dir == dir {
			d = old
			d.twice = name
		}
		c.devices[full] = d
	}
}

// settle takes out the devices that two files of one directory claim: which is meant cannot be known.
func (c *Catalog) settle() {
	for _, full := range c.Names() {
		if d := c.devices[full]; d.twice != "" {
			c.Problems = append(c.Problems, Problem{d.twice, fmt.Errorf("%s is defined in %s too", full, d.path)})
			delete(c.devices, full)
		}
	}
}

// Names are the devices that can be had, in order.
func (c *Catalog) Names() []string {
	names := make([]string, 0, len(c.devices))
	for n := range c.devices {
		names = append(names, n)
	}
	slices.SortFunc(names, byNumber)
	return names
}

// byNumber orders names as people do: gpu=2 comes before gpu=10.
func byNumber(a, b string) int {
	ka, na, _ := strings.Cut(a, "=")
	kb, nb, _ := strings.Cut(b, "=")
	if ka == kb && len(na) != len(nb) && digits(na) && digits(nb) {
		return len(na) - len(nb)
	}
	return strings.Compare(a, b)
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// missing explains why devices cannot be had.
func (c *Catalog) missing(names []string) error {
	f := &fault.Error{
		Code: "device-unknown", What: "no such device: " + strings.Join(names, ", "), Class: errdefs.ErrInvalidArgument,
		Try: "kist info lists the devices that there are",
	}
	var parts []string
	switch all := c.Names(); {
	case len(all) > 0:
		parts = append(parts, "the specifications in "+strings.Join(c.dirs, " and ")+" have "+some(all))
	case len(c.Files)+len(c.Problems) == 0:
		parts = append(parts, "there is no specification file in "+strings.Join(c.dirs, " or "))
		f.Try = "have the vendor's tool write one (NVIDIA's: nvidia-ctk cdi generate --output=" + filepath.Join(c.writable(), "nvidia.yaml") + ")"
	default:
		parts = append(parts, "no specification in "+strings.Join(c.dirs, " or ")+" has a device that can be used")
	}
	for _, p := range c.Problems {
		parts = append(parts, p.Error())
	}
	f.Cause = strings.Join(parts, "; ")
	return f
}

func (c *Catalog) writable() string {
	if len(c.dirs) == 0 {
		return DefaultDirs()[0]
	}
	return c.dirs[0]
}

// some are the first of many names.
func some(names []string) string {
	const most = 8
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
