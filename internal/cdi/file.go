package cdi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"
)

// maxFile bounds a specification file. The largest that a vendor's tool writes has some hundred kilobytes.
const maxFile = 4 << 20

// file is a specification file.
type file struct {
	Version     string            `json:"cdiVersion" yaml:"cdiVersion"`
	Kind        string            `json:"kind" yaml:"kind"`
	Annotations map[string]string `json:"annotations" yaml:"annotations"`
	Devices     []device          `json:"devices" yaml:"devices"`
	Edits       edits             `json:"containerEdits" yaml:"containerEdits"`
}

type device struct {
	Name        string            `json:"name" yaml:"name"`
	Annotations map[string]string `json:"annotations" yaml:"annotations"`
	Edits       edits             `json:"containerEdits" yaml:"containerEdits"`
}

// readFile reads and checks a specification file.
func readFile(name string) (*file, error) {
	raw, err := readBounded(name)
	if err != nil {
		return nil, err
	}
	return parse(raw, filepath.Ext(name) != ".json")
}

// readBounded reads a regular file of a reasonable size. A pipe must not keep the daemon waiting.
func readBounded(name string) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is no regular file")
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(raw) > maxFile {
		return nil, fmt.Errorf("it is larger than %d MB", maxFile>>20)
	}
	return raw, err
}

// parse reads a specification. Fields that are not known could change what is meant: they make it invalid.
func parse(raw []byte, isYAML bool) (*file, error) {
	f := new(file)
	decode := decodeJSON
	if isYAML {
		decode = decodeYAML
	}
	if err := decode(raw, f); err != nil {
		return nil, err
	}
	return f, f.check()
}

var errTail = errors.New("something follows the specification")

func decodeJSON(raw []byte, f *file) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(f); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errTail
	}
	return nil
}

func decodeYAML(raw []byte, f *file) error {
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	if err := dec.Decode(f); err != nil {
		return err
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return errTail
	}
	return nil
}

// check refuses what the standard does not allow.
func (f *file) check() error {
	if err := checkVersion(f.Version); err != nil {
		return err
	}
	vendor, class, ok := strings.Cut(f.Kind, "/")
	if !ok || !kindPattern.MatchString(vendor) || !kindPattern.MatchString(class) {
		return fmt.Errorf("invalid kind %q: want vendor/class", f.Kind)
	}
	if len(f.Devices) == 0 {
		return errors.New("it has no devices")
	}
	seen := map[string]bool{}
	for i := range f.Devices {
		d := &f.Devices[i]
		switch {
		case !namePattern.MatchString(d.Name):
			return fmt.Errorf("invalid name %q of a device", d.Name)
		case seen[d.Name]:
			return fmt.Errorf("device %s is there twice", d.Name)
		case d.Edits.empty() && f.Edits.empty():
			return fmt.Errorf("device %s has no edits", d.Name)
		}
		seen[d.Name] = true
		if err := d.Edits.check(); err != nil {
			return fmt.Errorf("device %s: %w", d.Name, err)
		}
	}
	return f.Edits.check()
}

var (
	kindPattern = regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?$`)
	namePattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?$`)
)

// checkVersion accepts what has been published, and later minor versions: what is new in them is an unknown field.
func checkVersion(v string) error {
	parts := strings.Split(strings.TrimPrefix(v, "v"), ".")
	numbers := make([]int, 0, 3)
	for _, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			break
		}
		numbers = append(numbers, int(n))
	}
	if len(parts) != 3 || len(numbers) != 3 {
		return fmt.Errorf("invalid cdiVersion %q", v)
	}
	if major, minor := numbers[0], numbers[1]; major > 1 || major == 0 && minor < 2 {
		return fmt.Errorf("cdiVersion %s is not served", v)
	}
	return nil
}
