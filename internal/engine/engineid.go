package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// engineID reads the engine's id, and makes one for a new data root.
func engineID(dataRoot string) (string, error) {
	file := filepath.Join(dataRoot, "engine-id")
	raw, err := os.ReadFile(file)
	if err == nil && len(raw) > 0 {
		return strings.TrimSpace(string(raw)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	id := newID()
	id = id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:32]
	return id, os.WriteFile(file, []byte(id+"\n"), 0o600)
}
