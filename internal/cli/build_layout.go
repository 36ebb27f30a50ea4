package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// layoutIndex is index.json of an OCI layout, as far as images are added to it.
type layoutIndex struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	Manifests     []json.RawMessage `json:"manifests"`
}

// unpackLayout unpacks an OCI layout into a directory. What a layout that is there holds stays, but for names that come anew.
func unpackLayout(r io.Reader, dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil { //nolint:gosec // as the umask has it
		return err
	}
	file := filepath.Join(dir, "index.json")
	old, err := readIndex(file)
	if err != nil {
		return err
	}
	if err := unpackInto(r, dir); err != nil {
		return err
	}
	if len(old.Manifests) == 0 {
		return nil
	}
	now, err := readIndex(file)
	if err != nil {
		return err
	}
	names := make(map[string]bool, len(now.Manifests))
	for _, m := range now.Manifests {
		names[layoutName(m)] = true
	}
	now.Manifests = append(slices.DeleteFunc(old.Manifests, func(m json.RawMessage) bool { return names[layoutName(m)] }), now.Manifests...)
	raw, err := json.Marshal(now)
	if err != nil {
		return err
	}
	return os.WriteFile(file, raw, 0o666) //nolint:gosec // as the umask has it
}

func readIndex(file string) (*layoutIndex, error) {
	x := new(layoutIndex)
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return x, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, x)
	}
	if err != nil {
		return nil, fmt.Errorf("read the layout's index: %w", err)
	}
	return x, nil
}

// layoutName is what a layout calls one of its images; its digest, if it has no name.
func layoutName(manifest json.RawMessage) string {
	var m struct {
		Digest      string            `json:"digest"`
		Annotations map[string]string `json:"annotations"`
	}
	if json.Unmarshal(manifest, &m) != nil {
		return ""
	}
	for _, key := range []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"} {
		if name := m.Annotations[key]; name != "" {
			return name
		}
	}
	return m.Digest
}
