package debian

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Deb is a package's file (deb(5)).
type Deb struct {
	// Control and Data are tar archives, packed in some way.
	Control, Data *io.SectionReader
}

const arHeader = 60

// OpenDeb finds the parts of a package's file.
func OpenDeb(r io.ReaderAt, size int64) (*Deb, error) {
	d := new(Deb)
	magic := make([]byte, 8)
	if _, err := r.ReadAt(magic, 0); err != nil || string(magic) != "!<arch>\n" {
		return nil, badDeb("it does not begin as an archive does")
	}
	at := int64(8)
	for n := 0; at < size; n++ {
		name, part, err := member(r, at, size)
		if err != nil {
			return nil, err
		}
		if err := d.take(n, name, part); err != nil {
			return nil, err
		}
		if d.Data != nil {
			return d, nil
		}
		at += arHeader + (part.Size()+1)&^1
	}
	return nil, badDeb("it has no data.tar")
}

// member reads the header of a member of an ar archive.
func member(r io.ReaderAt, at, size int64) (string, *io.SectionReader, error) {
	h := make([]byte, arHeader)
	if _, err := r.ReadAt(h, at); err != nil {
		return "", nil, badDeb("it is cut off")
	}
	if h[58] != '`' || h[59] != '\n' {
		return "", nil, badDeb("a member's header is damaged")
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(h[48:58])), 10, 64)
	if err != nil || n < 0 || n > size-at-arHeader {
		return "", nil, badDeb("a member is larger than the file")
	}
	name := strings.TrimSuffix(strings.TrimRight(string(h[:16]), " "), "/")
	return name, io.NewSectionReader(r, at+arHeader, n), nil
}

// take checks the order of the members: the version, the control part, the data. Those that begin with _ are for others.
func (d *Deb) take(n int, name string, part *io.SectionReader) error {
	switch {
	case n == 0:
		version := make([]byte, 4)
		if _, err := part.ReadAt(version, 0); name != "debian-binary" || err != nil || !bytes.HasPrefix(version, []byte("2.")) {
			return badDeb("it is no package of format 2")
		}
	case strings.HasPrefix(name, "_"):
	case d.Control == nil:
		if !packedTar(name, "control.tar") {
			return badDeb("it has no control.tar")
		}
		d.Control = part
	default:
		if !packedTar(name, "data.tar") {
			return badDeb("it has no data.tar behind its control.tar")
		}
		d.Data = part
	}
	return nil
}

func packedTar(name, want string) bool {
	rest, ok := strings.CutPrefix(name, want)
	return ok && (rest == "" || rest[0] == '.')
}

func badDeb(why string) error {
	return fmt.Errorf("not a Debian package: %s: %w", why, errdefs.ErrInvalidArgument)
}
