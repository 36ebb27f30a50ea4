package debian

import (
	"encoding/hex"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// Release is what a suite's Release file says.
type Release struct {
	Origin, Label, Suite, Codename, Version string
	Date                                    time.Time
	// ValidUntil is zero if the file does not become too old.
	ValidUntil                time.Time
	Components, Architectures []string
	// ByHash says that files can be had under their hashes, too: they do not change under the reader then.
	ByHash bool
	// Files by their paths below the suite's directory.
	Files map[string]File
}

// File is what is known of a file before it is fetched.
type File struct {
	Size   int64
	SHA256 [32]byte
}

// Hex is the hash as it is written.
func (f File) Hex() string { return hex.EncodeToString(f.SHA256[:]) }

// ParseRelease reads the text of a Release file.
func ParseRelease(text []byte) (*Release, error) {
	p, err := ParseParagraph(text)
	if err != nil {
		return nil, fmt.Errorf("release file: %w", err)
	}
	r := &Release{
		Origin: p.get("Origin"), Label: p.get("Label"), Suite: p.get("Suite"), Codename: p.get("Codename"), Version: p.get("Version"),
		Components: p.words("Components"), Architectures: p.words("Architectures"),
		ByHash: p.get("Acquire-By-Hash") == "yes", Files: map[string]File{},
	}
	if r.Date, err = parseDate(p.get("Date")); err != nil {
		return nil, err
	}
	if until := p.get("Valid-Until"); until != "" {
		if r.ValidUntil, err = parseDate(until); err != nil {
			return nil, err
		}
	}
	sums := p.get("SHA256")
	if sums == "" {
		return nil, fmt.Errorf("release file without SHA256 sums: %w", errdefs.ErrInvalidArgument)
	}
	for line := range strings.Lines(sums) {
		if err := r.addFile(strings.Fields(line)); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *Release) addFile(words []string) error {
	if len(words) == 0 {
		return nil
	}
	if len(words) != 3 {
		return fmt.Errorf("release file: bad line of SHA256: %w", errdefs.ErrInvalidArgument)
	}
	f, err := parseFile(words[1], words[0])
	if err != nil {
		return fmt.Errorf("release file: %s: %w", words[2], err)
	}
	if !CleanPath(words[2]) {
		return fmt.Errorf("release file: path %q: %w", words[2], errdefs.ErrInvalidArgument)
	}
	r.Files[words[2]] = f
	return nil
}

// CleanPath says whether a path that a mirror names stays below the mirror.
func CleanPath(name string) bool {
	return name != "" && name != "." && path.Clean("/"+name) == "/"+name && !strings.ContainsAny(name, "\x00\\?#")
}

func parseFile(size, sum string) (File, error) {
	var f File
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil || n < 0 {
		return f, fmt.Errorf("size %q: %w", size, errdefs.ErrInvalidArgument)
	}
	f.Size = n
	raw, err := hex.DecodeString(sum)
	if err != nil || len(raw) != len(f.SHA256) {
		return f, fmt.Errorf("SHA256 %q: %w", sum, errdefs.ErrInvalidArgument)
	}
	copy(f.SHA256[:], raw)
	return f, nil
}

// parseDate reads a date as Release files write it: RFC 5322 in UTC, with one or two digits for the day and the hour.
func parseDate(s string) (time.Time, error) {
	for _, layout := range []string{"Mon, _2 Jan 2006 15:04:05 MST", "Mon, 2 Jan 2006 15:04:05 -0700", "Mon, 2 Jan 2006 15:04:05 MST"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("release file: date %q: %w", s, errdefs.ErrInvalidArgument)
}

// Lists are the paths of a component's list of packages for an architecture, the one that is read fastest first. A list that
// is not packed may be told although the mirror does not have it, so it comes last.
func (r *Release) Lists(component, arch string) []string {
	base := component + "/binary-" + arch + "/Packages"
	var found []string
	for _, suffix := range []string{".gz", ".xz", ".zst", ".bz2", ""} {
		if _, ok := r.Files[base+suffix]; ok {
			found = append(found, base+suffix)
		}
	}
	return found
}
