package layer

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// mark is a place in a layer's tar from which its sum can be taken up: a new layer that differs from this one only later
// has the same beginning, which need not be read and hashed again.
type mark struct {
	Name   string `json:"name"`   // of the entry that begins there
	Offset int64  `json:"offset"` // in the tar
	State  []byte `json:"state"`  // of the sum of all before
}

const (
	// markEvery is how far marks are apart, about: each is 200 bytes on disk.
	markEvery = 4 << 20
	// marksFrom is how long a tar is worth marks.
	marksFrom = 16 << 20
)

// marks is what c/ID/k and l/NAME/k hold: a checksum and this.
type marks struct {
	DiffID digest.Digest `json:"diffID"`
	Marks  []mark        `json:"marks"`
}

// writeMarks writes the marks of a layer's tar. They may be missing later: a crash of the machine takes them.
func (s *Store) writeMarks(name string, m marks) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(raw)
	return s.create(name, append([]byte(hex.EncodeToString(sum[:])+"\n"), raw...))
}

// readMarks reads the marks of a layer. What is not what was written is as good as nothing.
func (s *Store) readMarks(l *unpacked) []mark {
	raw, err := os.ReadFile(filepath.Join(s.dir, "l", l.name, "k"))
	if err != nil {
		return nil
	}
	sum, raw, ok := bytes.Cut(raw, []byte("\n"))
	real := sha256.Sum256(raw)
	var m marks
	if !ok || string(sum) != hex.EncodeToString(real[:]) || json.Unmarshal(raw, &m) != nil || m.DiffID != l.DiffID {
		return nil
	}
	return m.Marks
}

// before counts the marks that come no later than an entry.
func before(list []mark, name string) int {
	i, found := slices.BinarySearchFunc(list, name, func(m mark, name string) int { return compareNames(m.Name, name) })
	if found {
		i++
	}
	return i
}

// compareNames is the order of entries in a layer's tar: a directory, then what is in it, by the names.
func compareNames(a, b string) int {
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}
