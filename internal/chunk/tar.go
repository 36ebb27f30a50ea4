package chunk

import (
	"archive/tar"
	"errors"
	"io"
)

// Least is the size below which a file's content is not worth a piece.
const Least = 256

// literalRoom bounds a literal.
const literalRoom = 64 << 10

// Visitor is told what a tar is made of, in order. The bytes are valid until it returns.
type Visitor interface {
	Literal(b []byte) error
	Piece(b []byte) error
}

// Tar takes a tar apart. Together the bytes that the visitor sees are those of r, whatever is in it: what is no tar, and what
// follows one, is told of as content without files.
func Tar(r io.Reader, v Visitor) error {
	t := &taker{r: r, v: v}
	if err := t.files(); err != nil {
		return err
	}
	t.inFile = true
	if _, err := io.Copy(io.Discard, t); err != nil {
		return err
	}
	return t.endFile()
}

// taker reads for a tar.Reader, and keeps what it reads.
type taker struct {
	r       io.Reader
	v       Visitor
	inFile  bool
	literal []byte
	cut     cutter
	err     error // of the visitor or of r, as opposed to one of the format
}

// files follows the tar's files to its end, or to where it is no tar.
func (t *taker) files() error {
	tr := tar.NewReader(t)
	for {
		h, err := tr.Next()
		if err != nil {
			// The end of the tar, or something wrong with it, which is not for us to judge.
			return t.err
		}
		if h.Size < Least {
			continue // Its bytes are read on the way to the next header.
		}
		if err := t.flush(); err != nil {
			return err
		}
		t.inFile = true
		_, err = io.Copy(io.Discard, plainReader{tr})
		t.inFile = false
		if t.err != nil {
			return t.err
		}
		if endErr := t.endFile(); endErr != nil {
			return endErr
		}
		if err != nil {
			return nil //nolint:nilerr // cut off: the rest is what it is
		}
	}
}

// plainReader hides the methods by which a tar.Reader leaves things out.
type plainReader struct{ r io.Reader }

func (p plainReader) Read(b []byte) (int, error) { return p.r.Read(b) }

// Read reads on for the tar.Reader.
func (t *taker) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if verr := t.take(p[:n]); verr != nil {
		t.err = verr
		return n, verr
	}
	if err != nil && !errors.Is(err, io.EOF) {
		t.err = err
	}
	return n, err
}

func (t *taker) take(b []byte) error {
	if t.inFile {
		return t.cut.add(b, t.v.Piece)
	}
	for len(b) > 0 {
		n := min(len(b), literalRoom-len(t.literal))
		t.literal = append(t.literal, b[:n]...)
		b = b[n:]
		if len(t.literal) == literalRoom {
			if err := t.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush gives the literal that has come together.
func (t *taker) flush() error {
	if len(t.literal) == 0 {
		return nil
	}
	err := t.v.Literal(t.literal)
	t.literal = t.literal[:0]
	return err
}

func (t *taker) endFile() error {
	if err := t.flush(); err != nil {
		return err
	}
	return t.cut.end(t.v.Piece)
}
