package model

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
)

// plain is the library's text on one line, without what it says of itself.
func plain(err error, files []string) string {
	text := strings.TrimPrefix(err.Error(), "validating ")
	for _, name := range files {
		if rest, ok := strings.CutPrefix(text, name+": "); ok {
			text = rest
		}
	}
	text = strings.TrimPrefix(text, "decoding failed due to the following error(s):")
	text = strings.TrimSuffix(strings.TrimSpace(text), ": invalid compose project")
	if before, _, ok := strings.Cut(text, " not found: stat "); ok {
		text = before + " not found"
	}
	text = strings.TrimPrefix(text, "yaml: ")
	return strings.Join(slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool { return strings.TrimSpace(line) == "" }), "; ")
}

// remedy is what to try about mistakes that are always the same.
func remedy(text string) string {
	switch {
	case strings.Contains(text, "tab character"):
		return "indent with spaces: YAML has no tabs"
	case strings.HasPrefix(text, "env file ") && strings.HasSuffix(text, " not found"):
		return "make that file, or env_file: [{path: FILE, required: false}]"
	case strings.Contains(text, "has neither an image nor a build context"):
		return "image: NAME, or build: DIRECTORY"
	case strings.Contains(text, "dependency cycle"):
		return "take one of these depends_on away"
	}
	return ""
}

// noSuchFile is the fault of a Compose file that was named and is not there.
func noSuchFile(err error, files []string) error {
	var p *fs.PathError
	if !errors.As(err, &p) || !errors.Is(p.Err, fs.ErrNotExist) || !slices.Contains(files, p.Path) {
		return nil
	}
	return &fault.Error{Code: "compose-no-file", What: "there is no Compose file " + relative(p.Path), Try: "-f with a file that is there", Class: errdefs.ErrNotFound}
}
