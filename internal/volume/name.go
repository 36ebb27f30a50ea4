package volume

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
)

// maxName is what a file name may have.
const maxName = 255

// nameForm is docker's. No name starts with a dot: those are for what is not a volume yet, or not any more.
var nameForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// checkName refuses names that docker refuses, in its words.
func checkName(name string) error {
	switch {
	case len(name) == 1:
		return fmt.Errorf("volume name is too short, names should be at least two alphanumeric characters: %w", errdefs.ErrInvalidArgument)
	case len(name) > maxName:
		return fmt.Errorf("volume name is too long, names should be at most %d characters: %w", maxName, errdefs.ErrInvalidArgument)
	case !nameForm.MatchString(name):
		return badName(name)
	}
	return nil
}

// badName says what is wrong with a volume's name: most often it is meant to be a path.
func badName(name string) error {
	f := &fault.Error{
		Code: "bad-name", What: fmt.Sprintf("%q is no volume's name: letters, digits and, not at its beginning, _ . - are allowed", name),
		Words: fmt.Sprintf("%q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. "+
			"If you intended to pass a host directory, use absolute path", name),
		Class: errdefs.ErrInvalidArgument,
	}
	if strings.Contains(name, "/") && len(name) < 200 {
		f.Try = "a directory of the host begins with / or ./, as ./" + strings.TrimPrefix(name, "./")
	}
	return f
}

// randomName is that of an anonymous volume: 64 hexadecimal digits.
func randomName() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
